"""A conditional latent diffusion model as a space."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import ddim, validate
from cfxnb.core.modes import standard_numbers
from cfxnb.core.tensors import noise_like, per_sample
from cfxnb.core.types import Code
from cfxnb.spaces.autoencoder import Autoencoder, downsample_factor_of
from cfxnb.spaces.conditions import AttributeConditions, Conditions
from cfxnb.spaces.precision import autocast

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class Diffusion(nn.Module):
    """Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022).

    A space like its ``autoencoder``, that also knows which latents images have: ``eps`` is the
    noise in noisy latents, told a condition or none.

    Args:
        net: what looks at noisy latents; its weights decide where the work runs.
        autoencoder: the space whose codes it was trained on.
        conditions: what the net can be told; by default the attributes of a ``ConditionalUNet``.
        alphas_cumprod: share of the variance that is left at each time of training, (times,), falling.
        prediction_type: ``"noise"``, ``"velocity"`` or ``"image"``; by default what the net says itself.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """

    def __init__(
        self,
        net: nn.Module,
        autoencoder: Autoencoder,
        *,
        conditions: Conditions | None = None,
        alphas_cumprod: Tensor | None = None,
        prediction_type: str | None = None,
    ) -> None:
        super().__init__()
        self.net: Any = validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        self.autoencoder = validate.instance(autoencoder, Autoencoder, "autoencoder")
        if conditions is None:
            options = getattr(net, "attributes", None)
            if options is None:
                raise ValueError("conditions: expected what the net can be told, got None")
            conditions = AttributeConditions(options)
        if missing := [
            a for a in ("encode", "predict_noise", "defaults") if not hasattr(conditions, a)
        ]:
            raise TypeError(
                f"conditions: expected one such as ClassConditions or AttributeConditions, got "
                f"{type(conditions).__name__} without {', '.join(missing)}"
            )
        self.conditions = conditions
        given = ddim.linear_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod
        self.alphas_cumprod = validate.falling(
            given, "alphas_cumprod"
        )  # on the CPU: not every device has float64
        guess = (
            getattr(net, "prediction_type", "epsilon")
            if prediction_type is None
            else prediction_type
        )
        self.prediction_type = validate.choice(guess, "prediction_type", PREDICTION_TYPES)

    @property
    def mean(self) -> Tensor:
        return self.autoencoder.mean

    @property
    def std(self) -> Tensor:
        return self.autoencoder.std

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
        even = 1 if any_size else downsample_factor_of(net)
        images = validate.pixels(images)
        self.autoencoder.check_images(images, even * self.autoencoder.downsample_factor)
        return self.autoencoder.encode(images)

    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """As the autoencoder's."""
        return self.autoencoder.decode(code, clamp)

    @standard_numbers
    def encode_condition(self, conditions: Sequence[Any]) -> Tensor:
        """What the net takes for ``conditions``, one a sample; None for nothing told."""
        return self.conditions.encode(conditions).to(self.mean.device)

    @standard_numbers
    def predict_noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The noise in noisy codes; differentiable in ``z``.

        Args:
            z: (b, c, h, w).
            t: times from 0 on, int64 (b,).
            condition: rows made by ``encode_condition``.
        """
        here = self.mean.device
        t = t.to(here)
        with autocast(here, self.autoencoder.precision):
            found = self.conditions.predict_noise(
                self.net, z.to(here), t, condition.to(here)
            ).float()
        found = found.to(z.device)
        if self.prediction_type == "epsilon":
            return found
        left = per_sample(self.alphas_cumprod.to(torch.float32)[t.cpu()].to(z), z)
        if self.prediction_type == "v_prediction":
            return left.sqrt() * found + (1 - left).sqrt() * z
        return (z - left.sqrt() * found) / (1 - left).sqrt()

    @standard_numbers
    @torch.no_grad()
    def sample(
        self,
        conditions: Sequence[Any],
        *,
        guidance_scale: float = 2.0,
        steps: int = 25,
        seed: int = 0,
        shape: tuple[int, int] | None = None,
    ) -> Code:
        """Codes of images that never were, one draw a sample from (seed, index).

        Args:
            conditions: the condition of each, None for any image.
            guidance_scale: of the classifier-free guidance (Ho & Salimans, 2021); 1 for none.
            shape: height and width of the codes; by default those of ``mean``.

        Raises:
            ValueError, TypeError: for a wrong argument, naming it.
        """
        guidance_scale = validate.number(guidance_scale, "guidance_scale", 0.0, 1e6)
        times = ddim.timesteps(validate.count(steps, "steps", 2), len(self.alphas_cumprod))
        conditions = validate.listed(conditions, "conditions", "conditions")
        if not conditions:
            raise ValueError("conditions: expected at least one condition, got none")
        validate.seed(seed)
        if shape is None:
            sides = tuple(self.mean.shape[1:])
        else:
            sizes = validate.listed(shape, "shape", "two numbers")
            if len(sizes) != 2:
                raise ValueError(f"shape: expected (h, w), got {validate.told(shape)}")
            sides = tuple(validate.count(size, "shape", 1, 10**5) for size in sizes)
        like = self.mean.new_empty(len(conditions), len(self.mean), *sides)
        cond = self.encode_condition(conditions)
        uncond = self.encode_condition([None] * len(conditions))

        def predict(x: Tensor, time: int) -> Tensor:
            t = torch.full((len(x),), time)
            eps_uncond = self.predict_noise(x, t, uncond)
            if guidance_scale == 0:
                return eps_uncond
            return eps_uncond + guidance_scale * (self.predict_noise(x, t, cond) - eps_uncond)

        noise = noise_like(like, validate.seed(seed))
        return Code(ddim.render(predict, noise, self.alphas_cumprod, times, None))
