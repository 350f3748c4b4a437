"""A conditional latent diffusion model as a space."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import ddim, validate
from cfxnb.core.model_folder import Carded
from cfxnb.core.modes import standard_numbers
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code
from cfxnb.spaces.autoencoder import Autoencoder, downsample_factor_of
from cfxnb.spaces.conditions import AttributeConditions, Conditions
from cfxnb.spaces.parametrisation import Parametrisation
from cfxnb.spaces.precision import autocast


class Diffusion(Carded, nn.Module):
    """Space of a diffusion or flow model, of latents (Rombach et al., CVPR 2022) or of pixels.

    Images are encoded and decoded by ``autoencoder``. ``predict_noise`` predicts the noise in noisy
    codes, with or without a condition. All methods see a model in this way, also if its network
    predicts something else. ``parametrisation`` says what the network predicts.

    Args:
        net: the denoising network, on the same device as ``autoencoder``.
        autoencoder: the space whose codes ``net`` was trained on.
        conditions: what ``net`` can be conditioned on. Default: the attributes of a
            ``ConditionalUNet``.
        alphas_cumprod: fraction of a code's variance that is left after noise is added (alpha_bar),
            at each training time, (times,). Default: the linear schedule of Ho et al. (2020).
        prediction_type: what ``net`` predicts, ``"epsilon"``, ``"v_prediction"`` or ``"sample"``.
            Default: ``net.prediction_type``, else ``"epsilon"``.
        parametrisation: what ``net`` gets and predicts, for networks that were not trained as a
            DDPM, such as ``Parametrisation.flow_matching(sigmas)``. Default: that of a DDPM with
            ``alphas_cumprod`` and ``prediction_type``, which must be None otherwise.

    Attributes:
        clip_sample_range: largest absolute value of clean codes in ``sample``, or None. Models of
            pixels often have 1. Methods only clip if their own option says so.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """

    def __init__(
        self,
        net: nn.Module,
        autoencoder: Autoencoder,
        *,
        conditions: Conditions | None = None,
        alphas_cumprod: Tensor | None = None,
        prediction_type: str | None = None,
        parametrisation: Parametrisation | None = None,
    ) -> None:
        super().__init__()
        self.net: Any = validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        self.autoencoder = validate.instance(autoencoder, Autoencoder, "autoencoder")
        if conditions is None:
            options = getattr(net, "attributes", None)
            if options is None:
                raise ValueError(
                    "conditions: expected what the net can be conditioned on, got None"
                )
            conditions = AttributeConditions(options)
        wanted = "ClassConditions, AttributeConditions or the like"
        parts = ("encode", "predict_noise", "defaults")
        validate.having(conditions, parts, "conditions", wanted)
        self.conditions = conditions
        if parametrisation is None:
            if alphas_cumprod is None:
                alphas_cumprod = ddim.linear_alphas_cumprod()
            if prediction_type is None:
                prediction_type = getattr(net, "prediction_type", "epsilon")
            parametrisation = Parametrisation.ddpm(alphas_cumprod, prediction_type=prediction_type)
        elif alphas_cumprod is not None or prediction_type is not None:
            name = "prediction_type" if alphas_cumprod is None else "alphas_cumprod"
            raise ValueError(f"{name}: expected None with parametrisation, which defines it")
        validate.instance(parametrisation, Parametrisation, "parametrisation")
        self.parametrisation = parametrisation
        self.clip_sample_range: float | None = None

    @property
    def alphas_cumprod(self) -> Tensor:
        """Fraction of a code's variance that is left at each time (alpha_bar), float64 (times,)."""
        # On the CPU, because not every device has float64.
        return self.parametrisation.alphas_cumprod

    @property
    def prediction_type(self) -> str:
        """What the network predicts, such as "epsilon"."""
        return self.parametrisation.prediction_type

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Carded]]:
        return self.net, {}, {"autoencoder": self.autoencoder}

    @property
    def mean(self) -> Tensor:
        return self.autoencoder.mean

    @property
    def std(self) -> Tensor:
        return self.autoencoder.std

    @property
    def axes(self) -> Tensor | None:
        return getattr(self.autoencoder, "axes", None)

    @property
    def variances(self) -> Tensor | None:
        return getattr(self.autoencoder, "variances", None)

    @property
    def reconstruction_error(self) -> float | None:
        """Mean squared error of the autoencoder on test images, or None if unknown."""
        return getattr(self.autoencoder, "reconstruction_error", None)

    def encode(self, images: Tensor) -> Code:
        """Return the codes of images, see ``Autoencoder.encode``.

        Raises:
            ValueError: if the images don't fit the autoencoder, or their codes don't fit ``net``.
        """
        net = getattr(self.net, "unet", self.net)
        # Of the networks of diffusers, only UNet2DConditionModel takes codes of any size.
        config = getattr(net, "config", {})
        any_size = "cross_attention_dim" in config and "patch_size" not in config
        even = 1 if any_size else downsample_factor_of(net) * getattr(self.conditions, "patch", 1)
        images = validate.pixels(images)
        self.autoencoder.check_images(images, even * self.autoencoder.downsample_factor)
        square = "num_embeds_ada_norm" in config and config.get("norm_type") != "ada_norm_single"
        if square and images.shape[2] != images.shape[3]:  # a DiT
            raise ValueError(
                f"images: expected squares, as this network needs, got {tuple(images.shape)}"
            )
        # Some transformers have a table of positions, which bounds the size of codes.
        limit = config.get("pos_embed_max_size")
        if limit and max(images.shape[2:]) > limit * even * self.autoencoder.downsample_factor:
            largest = limit * even * self.autoencoder.downsample_factor
            raise ValueError(
                f"images: expected a height and width of at most {largest} pixels with this "
                f"model, got {tuple(images.shape)}"
            )
        return self.autoencoder.encode(images)

    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """Return the images of codes, see ``Autoencoder.decode``."""
        return self.autoencoder.decode(code, clamp)

    @standard_numbers
    def encode_condition(self, conditions: Sequence[Any]) -> Tensor:
        """Encode one condition per sample for ``predict_noise``. A condition may be None."""
        return self.conditions.encode(conditions).to(self.mean.device)

    def predict_noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the predicted noise in noisy codes. Differentiable in ``z``.

        Args:
            z: noisy codes, (b, c, h, w).
            t: times from 0 to len(alphas_cumprod) - 1, int64 (b,).
            condition: conditions encoded by ``encode_condition``, one per sample.
        """
        return self.predict_noise_and_variance(z, t, condition)[0]

    @standard_numbers
    def predict_noise_and_variance(
        self, z: Tensor, t: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the predicted noise, and the variance if the network learned it.

        If the network returns twice as many channels as it gets, the second half is the learned
        variance of DDPM steps (Nichol & Dhariwal, 2021), expressed as numbers between -1 and 1.

        Args:
            z, t, condition: arguments of ``predict_noise``.

        Returns:
            The noise, (b, c, h, w), and ``fraction`` (b, c, h, w) or None. ``fraction`` says where
            the logarithm of the variance lies between its lowest value (0) and its highest (1).
        """
        device = self.mean.device
        x, times = self.parametrisation.network_input(z.to(device), t)
        with autocast(device, self.autoencoder.precision):
            out = self.conditions.predict_noise(self.net, x, times, condition.to(device))
        found, fraction = out.float().to(z.device), None
        if found.ndim == 4 and found.shape[1] == 2 * z.shape[1]:
            found, variance = found.chunk(2, 1)
            fraction = (variance + 1) / 2
        return self.parametrisation.noise(z, t, found), fraction

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
        """Sample codes of new images with DDIM. Sample i depends only on (seed, i).

        Args:
            conditions: the condition of each sample, or None for an unconditional sample.
            guidance_scale: scale of classifier-free guidance (Ho & Salimans, 2021), defined as in
                diffusers. With ``guidance_scale=1``, samples come from the conditional model
                without guidance. With ``guidance_scale=0``, samples come from the unconditional
                model.
            steps: number of denoising steps.
            seed: seed of the noise.
            shape: height and width of the codes. Default: those of ``mean``.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        guidance_scale = validate.number(guidance_scale, "guidance_scale", 0.0, 1e6)
        times = ddim.timesteps(validate.count(steps, "steps", 2), len(self.alphas_cumprod))
        conditions = validate.listed(conditions, "conditions", "conditions")
        if not conditions:
            raise ValueError("conditions: expected at least one condition, got none")
        own = tuple(self.mean.shape[1:])
        sides = own if shape is None else validate.sizes(shape, "shape", "(h, w)")
        like = self.mean.new_empty(len(conditions), len(self.mean), *sides)
        cond = self.encode_condition(conditions)
        # Models without an unconditional prediction can only sample with guidance_scale=1.
        unguided = guidance_scale == 1
        uncond = cond if unguided else self.encode_condition([None] * len(conditions))

        def predict(x: Tensor, time: int) -> Tensor:
            t = torch.full((len(x),), time)
            eps_uncond = self.predict_noise(x, t, uncond)
            if guidance_scale == 0 or unguided:
                return eps_uncond
            return eps_uncond + guidance_scale * (self.predict_noise(x, t, cond) - eps_uncond)

        noise = noise_like(like, validate.seed(seed))
        codes = ddim.render(predict, noise, self.alphas_cumprod, times, self.clip_sample_range)
        return Code(codes)
