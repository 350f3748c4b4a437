"""A conditional latent diffusion model as a space."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import ddim, validate
from cfxnb.core.modes import standard_numbers
from cfxnb.core.tensors import noise_like, per_sample
from cfxnb.core.types import Code
from cfxnb.spaces.autoencoder import Autoencoder, halvings
from cfxnb.spaces.conditions import Attributes, Conditions
from cfxnb.spaces.precision import autocast

PREDICTIONS = ("noise", "velocity", "image")


class Diffusion(nn.Module):
    """Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022).

    A space like its ``autoencoder``, that also knows which latents images have: ``eps`` is the
    noise in noisy latents, told a condition or none.

    Args:
        net: what looks at noisy latents; its weights decide where the work runs.
        autoencoder: the space whose codes it was trained on.
        conditions: what the net can be told; by default the attributes of a ``ConditionalUNet``.
        alphas: share of the variance that is left at each time of training, (times,), falling.
        predicts: ``"noise"``, ``"velocity"`` or ``"image"``; by default what the net says itself.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """

    def __init__(
        self,
        net: nn.Module,
        autoencoder: Autoencoder,
        *,
        conditions: Conditions | None = None,
        alphas: Tensor | None = None,
        predicts: str | None = None,
    ) -> None:
        super().__init__()
        self.net: Any = validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        self.autoencoder = validate.instance(autoencoder, Autoencoder, "autoencoder")
        if conditions is None:
            options = getattr(net, "attributes", None)
            if options is None:
                raise ValueError("conditions: expected what the net can be told, got None")
            conditions = Attributes(options)
        if missing := [a for a in ("tell", "ask", "default") if not hasattr(conditions, a)]:
            raise TypeError(
                f"conditions: expected one such as Classes or Attributes, got "
                f"{type(conditions).__name__} without {', '.join(missing)}"
            )
        self.conditions = conditions
        given = ddim.linear_alphas_cumprod() if alphas is None else alphas
        self.alphas = validate.falling(given, "alphas")  # on the CPU: not every device has float64
        guess = getattr(net, "predicts", "noise") if predicts is None else predicts
        self.predicts = validate.choice(guess, "predicts", PREDICTIONS)

    @property
    def center(self) -> Tensor:
        return self.autoencoder.center

    @property
    def spread(self) -> Tensor:
        return self.autoencoder.spread

    @property
    def reconstruction_error(self) -> float | None:
        """Mean squared error of the autoencoder on test images, if it is known."""
        return getattr(self.autoencoder, "reconstruction_error", None)

    def encode(self, images: Tensor) -> Code:
        """As the autoencoder's.

        Raises:
            ValueError: if the images don't fit the autoencoder, or their codes the net.
        """
        net = getattr(self.net, "unet", self.net)
        # UNet2DConditionModel takes codes of any size, the other networks of diffusers don't.
        any_size = "cross_attention_dim" in getattr(net, "config", {})
        even = 1 if any_size else halvings(net)
        images = validate.pixels(images)
        self.autoencoder.check(images, even * self.autoencoder.side)
        return self.autoencoder.encode(images)

    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """As the autoencoder's."""
        return self.autoencoder.decode(code, clamp)

    @standard_numbers
    def tell(self, asked: Sequence[Any]) -> Tensor:
        """What the net takes for ``asked``, one a sample; None for nothing told."""
        return self.conditions.tell(asked).to(self.center.device)

    @standard_numbers
    def eps(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The noise in noisy codes; differentiable in ``z``.

        Args:
            z: (b, c, h, w).
            t: times from 0 on, int64 (b,).
            condition: rows made by ``tell``.
        """
        here = self.center.device
        t = t.to(here)
        with autocast(here, self.autoencoder.precision):
            found = self.conditions.ask(self.net, z.to(here), t, condition.to(here)).float()
        found = found.to(z.device)
        if self.predicts == "noise":
            return found
        left = per_sample(self.alphas.to(torch.float32)[t.cpu()].to(z), z)
        if self.predicts == "velocity":
            return left.sqrt() * found + (1 - left).sqrt() * z
        return (z - left.sqrt() * found) / (1 - left).sqrt()

    @standard_numbers
    @torch.no_grad()
    def sample(
        self,
        asked: Sequence[Any],
        *,
        scale: float = 2.0,
        steps: int = 25,
        seed: int = 0,
        shape: tuple[int, int] | None = None,
    ) -> Code:
        """Codes of images that never were, one draw a sample from (seed, index).

        Args:
            asked: the condition of each, None for any image.
            scale: of the classifier-free guidance (Ho & Salimans, 2021); 1 for none.
            shape: height and width of the codes; by default those of ``center``.

        Raises:
            ValueError, TypeError: for a wrong argument, naming it.
        """
        scale = validate.number(scale, "scale", 0.0, 1e6)
        times = ddim.timesteps(validate.count(steps, "steps", 2), len(self.alphas))
        asked = validate.listed(asked, "asked", "conditions")
        if not asked:
            raise ValueError("asked: expected at least one condition, got none")
        validate.seed(seed)
        if shape is None:
            sides = tuple(self.center.shape[1:])
        else:
            sizes = validate.listed(shape, "shape", "two numbers")
            if len(sizes) != 2:
                raise ValueError(f"shape: expected (h, w), got {validate.told(shape)}")
            sides = tuple(validate.count(size, "shape", 1, 10**5) for size in sizes)
        like = self.center.new_empty(len(asked), len(self.center), *sides)
        told, nothing = self.tell(asked), self.tell([None] * len(asked))

        def predict(x: Tensor, time: int) -> Tensor:
            t = torch.full((len(x),), time)
            free = self.eps(x, t, nothing)
            return free if scale == 0 else free + scale * (self.eps(x, t, told) - free)

        noise = noise_like(like, validate.seed(seed))
        return Code(ddim.render(predict, noise, self.alphas, times, None))
