"""Factor readers: one network that predicts every factor of an image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.classifiers import two_logits
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import predicted
from cfxnb.core.warn import ProbabilityWatch


class FactorReader:
    """Predict named factors of images (an attribute classifier with several heads).

    Args:
        module: Network that maps images (b, c, h, w) in [0, 1] to logits (b, n). The logits of the
            first factor's options come first, the logits of the second factor's options second, and
            so on. If every factor has two options, the network may return one logit per factor.
            A single logit per factor is read as the log odds of the second option.
        options: Dict from each factor to its options, in the order of the logits.

    Raises:
        ValueError, TypeError: For a factor without at least two different options. The first call
            of the reader raises ValueError if the module returns logits of the wrong shape.
    """

    def __init__(self, module: nn.Module, options: Mapping[str, Sequence[Any]]) -> None:
        self.module = validate.instance(module, nn.Module, "module", "a torch.nn.Module")
        validate.instance(options, Mapping, "options", "a dict: factor -> its options")
        if not options:
            raise ValueError("options: expected at least one factor, got none")
        self.options = {
            validate.text(name, "options"): _checked_options(values, name[:60])
            for name, values in options.items()
        }
        self._watch = ProbabilityWatch("module", remedy="turn them into logits inside the module")

    @standard_numbers
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of each factor, (b, options), on the device of ``images``.

        Gradients of the logits flow back to the images.

        Raises:
            ValueError, TypeError: For images that ``cfx.predict_logits`` refuses, or if the module
                returns logits of the wrong shape.

        Warns:
            UserWarning: If the outputs look like probabilities.
        """
        empty = isinstance(images, Tensor) and images.ndim == 4 and not len(images)
        images = images if empty else validate.pixels(images)
        out = self._logits(images)
        if out.ndim == 2:
            self._watch.see(out, lambda: self._logits(images[:1].detach().clone().requires_grad_()))
        out = out.to(images.device)
        sizes = [len(values) for values in self.options.values()]
        if out.shape == (len(images), sum(sizes)):
            return dict(zip(self.options, out.split(sizes, 1), strict=True))
        if out.shape == (len(images), len(sizes)) and set(sizes) == {2}:
            return {n: two_logits(out[:, i]) for i, n in enumerate(self.options)}
        raise ValueError(
            f"module: expected logits of shape ({len(images)}, {sum(sizes)}) for the options of "
            f"{list(self.options)}, got {tuple(out.shape)}"
        )

    def _logits(self, images: Tensor) -> Tensor:
        """Apply the module to a copy of the images, because the module may change its input."""
        first = next(self.module.parameters(), images)
        out = self.module(images.to(first.device, first.dtype).clone())
        out = getattr(out, "logits", out)  # transformers return an object with .logits
        validate.instance(out, Tensor, "module", "logits as a torch tensor")
        if not out.is_floating_point() or out.is_meta:
            raise TypeError(f"module: expected logits as floats, got {out.dtype} on {out.device}")
        return out

    @standard_modes
    def indices(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """Return the index of the most probable option of each factor, int64 (n, factors).

        The module runs in evaluation mode.

        Args:
            images: Images in [0, 1], (n, c, h, w).
            batch_size: Images per batch. A larger batch is faster and needs more memory.
        """
        batch_size = validate.count(batch_size, "batch_size", 1)
        self._watch.reset()
        with eval_frozen(self), torch.no_grad():
            parts = [
                torch.stack([predicted(logits) for logits in self(chunk).values()], 1)
                for chunk in validate.images(images).split(batch_size)
            ]
        indices = torch.cat(parts)
        if wrong := int((indices < 0).any(1).sum()):
            raise ValueError(
                f"module: expected finite logits, got NaN or infinity for {wrong} of "
                f"{len(indices)} images"
            )
        return indices

    def read(self, images: Tensor, batch_size: int = 512) -> pd.DataFrame:
        """Return the most probable option of each factor: one row per image, one column per factor.

        Args:
            images: Images in [0, 1], (n, c, h, w).
            batch_size: Images per batch. A larger batch is faster and needs more memory.
        """
        indices = self.indices(images, batch_size).cpu()
        columns = {
            name: [values[i] for i in indices[:, j].tolist()]
            for j, (name, values) in enumerate(self.options.items())
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"FactorReader({type(self.module).__name__}: {', '.join(self.options)})"


def _checked_options(values: Any, name: Any) -> tuple[Any, ...]:
    """Return the options of a factor, after checking that there are two or more, all different."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(
            f"options[{name!r}]: expected a sequence of options, got {validate.describe(values)}"
        )
    options = tuple(values)
    if not all(map(validate.is_label, options)):
        raise TypeError(
            f"options[{name!r}]: expected texts, numbers or bools, none missing, got "
            f"{validate.describe(options)}"
        )
    if len(set(options)) < 2 or len(set(options)) < len(options):
        raise ValueError(
            f"options[{name!r}]: expected two different options or more, got {options}"[:300]
        )
    return options
