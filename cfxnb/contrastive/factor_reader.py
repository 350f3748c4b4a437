"""Factor readers: one network that reads every factor off an image."""

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
    """Reads named factors, each with its own options.

    Args:
        module: images (b, c, h, w) in [0, 1] -> logits (b, n), the options of all factors one
            after the other; or one logit a factor, for factors with two options (the usual
            multi-attribute net), which is taken for the log odds of the second.
        options: name of each factor -> its options, in the order of the logits.

    Raises:
        ValueError, TypeError: for a factor without at least two different options; later, at the
            first call, if the module's output doesn't fit.
    """

    def __init__(self, module: nn.Module, options: Mapping[str, Sequence[Any]]) -> None:
        self.module = validate.instance(module, nn.Module, "module", "a torch.nn.Module")
        validate.instance(options, Mapping, "options", "a dict: factor -> its options")
        if not options:
            raise ValueError("options: expected at least one factor, got none")
        self.options = {
            validate.text(name, "options"): _several(values, name[:60])
            for name, values in options.items()
        }
        self._watch = ProbabilityWatch("module", remedy="turn them into logits inside the module")

    @standard_numbers
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of each factor, (b, its options), where the images are; gradients pass.

        Raises:
            ValueError, TypeError: for images that ``cfx.predict_logits`` refuses, too; if the module's
                output doesn't fit.

        Warns:
            UserWarning: if the outputs look like probabilities.
        """
        empty = isinstance(images, Tensor) and images.ndim == 4 and not len(images)
        images = images if empty else validate.pixels(images)
        out = self._ask(images)
        if out.ndim == 2:
            self._watch.see(out, lambda: self._ask(images[:1].detach().clone().requires_grad_()))
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

    def _ask(self, images: Tensor) -> Tensor:
        """What the module returns for its own copy of the images, which it may change."""
        first = next(self.module.parameters(), images)
        out = self.module(images.to(first.device, first.dtype).clone())
        out = getattr(out, "logits", out)  # transformers return an object with .logits
        validate.instance(out, Tensor, "module", "logits as a torch tensor")
        if not out.is_floating_point() or out.is_meta:
            raise TypeError(f"module: expected logits as floats, got {out.dtype} on {out.device}")
        return out

    @standard_modes
    def indices(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """The number of the likeliest option of each factor, (n, factors), in evaluation mode."""
        batch_size = validate.count(batch_size, "batch_size", 1)
        self._watch.begin()
        with eval_frozen(self), torch.no_grad():
            parts = [
                torch.stack([predicted(logits) for logits in self(chunk).values()], 1)
                for chunk in validate.images(images).split(batch_size)
            ]
        indices = torch.cat(parts)
        wrong = int((indices < 0).any(1).sum())
        if wrong:
            raise ValueError(
                f"module: expected finite logits, got NaN or infinity for {wrong} of "
                f"{len(indices)} images"
            )
        return indices

    def read(self, images: Tensor, batch_size: int = 512) -> pd.DataFrame:
        """The likeliest option of each factor by name: one row an image, one column a factor."""
        indices = self.indices(images, batch_size).cpu()
        columns = {
            name: [values[i] for i in indices[:, j].tolist()]
            for j, (name, values) in enumerate(self.options.items())
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"FactorReader({type(self.module).__name__}: {', '.join(self.options)})"


def _several(values: Any, name: Any) -> tuple[Any, ...]:
    """Two different options or more; a text is not taken for its letters."""
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
