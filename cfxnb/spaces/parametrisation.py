"""What a denoising network was trained to predict, and how this becomes predicted noise.

All methods see diffusion and flow models in the same way. The noisy codes are ``z = sqrt(a) x0 +
sqrt(1 - a) e``, with clean codes x0, noise e of variance 1 and the noise level a
(``alphas_cumprod``). The network predicts e. These coordinates z are called variance-preserving.
This module is the only place that converts other models to variance-preserving coordinates:

- Networks of DDPM predict the noise e, the clean code x0, or v = sqrt(a) e - sqrt(1 - a) x0.
- Networks of flow matching see x = (1 - s) x0 + s e and predict the velocity e - x0. With
  c = sqrt((1 - s)^2 + s^2), the code is z = x / c, and a = (1 - s)^2 / c^2.
- Networks of EDM (Karras et al., 2022) see x = x0 + s e. The code is z = x / sqrt(1 + s^2), and a =
  1 / (1 + s^2). The network gets c_in x. Its output times c_out, plus c_skip x, is the predicted
  clean code.

In each case the input of the network is a multiple of z, and the noise is a sum of a multiple of z
and a multiple of the output. A ``Parametrisation`` is a table of these factors, one row per time.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import per_sample

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclasses.dataclass(frozen=True, eq=False)
class Parametrisation:
    """The times at which a network can be evaluated, and what it predicts there.

    Build one with ``ddpm``, ``flow_matching`` or ``edm``. All tensors have one number per time, on
    the CPU, from the cleanest to the noisiest time.

    Attributes:
        alphas_cumprod: fraction of the clean code's variance that is left (alpha_bar), float64.
        times: the time that the network gets as its input, int64 or float32.
        input_scale: the network gets ``input_scale * z``.
        z_weight, output_weight: the noise is ``z_weight * z + output_weight * output``.
        prediction_type: ``"epsilon"``, ``"v_prediction"``, ``"sample"``, or ``"flow_prediction"``
            for the velocity of flow matching.

    Raises:
        ValueError, TypeError: if the tensors are wrong.
    """

    alphas_cumprod: Tensor
    times: Tensor
    input_scale: Tensor
    z_weight: Tensor
    output_weight: Tensor
    prediction_type: str

    def __post_init__(self) -> None:
        falling = validate.falling(self.alphas_cumprod, "alphas_cumprod")
        object.__setattr__(self, "alphas_cumprod", falling)
        for name in ("times", "input_scale", "z_weight", "output_weight"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name, len(falling)))
        kinds = (*PREDICTION_TYPES, "flow_prediction")
        validate.choice(self.prediction_type, "prediction_type", kinds)

    @classmethod
    def ddpm(cls, alphas_cumprod: Tensor, *, prediction_type: str = "epsilon") -> "Parametrisation":
        """Return the parametrisation of a network that was trained as a DDPM (Ho et al., 2020).

        Args:
            alphas_cumprod: alpha_bar at each training time, falling between 1 and 0, (times,). If
                the last number is 0 (zero terminal SNR), it is replaced by half of the number
                before, because pure noise contains no code.
            prediction_type: what the network predicts: the noise (``"epsilon"``), the clean code
                (``"sample"``), or ``"v_prediction"`` (Salimans & Ho, 2022). Default:
                ``"epsilon"``.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        validate.choice(prediction_type, "prediction_type", PREDICTION_TYPES)
        alphas_cumprod = validate.falling(_above_zero(alphas_cumprod), "alphas_cumprod")
        alpha_bar = alphas_cumprod.float()  # in the precision in which these networks are trained
        one, zero = torch.ones_like(alpha_bar), torch.zeros_like(alpha_bar)
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        z_weight, output_weight = {
            "epsilon": (zero, one),
            "v_prediction": (sigma, signal),
            "sample": (1 / sigma, -signal / sigma),
        }[prediction_type]
        times = torch.arange(len(alpha_bar))
        return cls(alphas_cumprod, times, one, z_weight, output_weight, prediction_type)

    @classmethod
    def flow_matching(cls, sigmas: Tensor, *, time_scale: float = 1000.0) -> "Parametrisation":
        """Return the parametrisation of a flow x = (1 - s) x0 + s e with the velocity e - x0.

        Args:
            sigmas: the noise levels s that methods may use, increasing from above 0 to at most 1,
                (times,). A first sigma of 0 is left out, because the code is clean there. A last
                sigma of 1 is replaced by a smaller one with half of the alpha_bar of the sigma
                before, because pure noise contains no code.
            time_scale: the network gets the time ``time_scale * s``. Default: 1000, as in
                diffusers.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        s = _increasing(sigmas, 1.0)
        scale = validate.number(time_scale, "time_scale", 0.0, open_low=True)
        alpha_bar = _above_zero((1 - s).square() / ((1 - s).square() + s.square()))
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        s = noise / (signal + noise)  # of the last alpha_bar, too
        c = ((1 - s).square() + s.square()).sqrt()
        times = (scale * s).float()
        return cls(alpha_bar, times, c, c, 1 - s, "flow_prediction")

    @classmethod
    def edm(
        cls, sigmas: Tensor, *, sigma_data: float = 0.5, prediction_type: str = "epsilon"
    ) -> "Parametrisation":
        """Return the parametrisation of a network with the preconditioning of Karras et al. (2022).

        The network sees c_in x with x = x0 + s e, and the time log(s) / 4. The predicted clean code
        is c_skip x + c_out * output.

        Args:
            sigmas: the noise levels s that methods may use, increasing from above 0, (times,). A
                first sigma of 0 is left out, because the code is clean there.
            sigma_data: standard deviation of the clean codes, as stated in training. Default: 0.5.
            prediction_type: ``"epsilon"`` as in the paper, or ``"v_prediction"``, for which the
                sign of c_out is reversed, as in diffusers. Default: ``"epsilon"``.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        s = _increasing(sigmas)
        data = validate.number(sigma_data, "sigma_data", 0.0, open_low=True)
        validate.choice(prediction_type, "prediction_type", PREDICTION_TYPES[:2])
        total, size = s.square() + data**2, (1 + s.square()).sqrt()
        c_in, c_out = 1 / total.sqrt(), s * data / total.sqrt()
        if prediction_type == "v_prediction":
            c_out = -c_out
        # e = (x - c_skip x - c_out output) / s with x = size * z and c_skip = data^2 / total.
        z_weight, output_weight = s * size / total, -c_out / s
        times = (s.log() / 4).float()
        return cls(1 / size.square(), times, c_in * size, z_weight, output_weight, prediction_type)

    def network_input(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes and the times that the network gets, for codes ``z`` at times ``t``.

        Args:
            z: noisy codes in variance-preserving coordinates, (b, ...). Differentiable.
            t: indices of times, from 0 to ``len(alphas_cumprod) - 1``, int64 (b,).
        """
        t = t.cpu()
        return per_sample(self.input_scale[t].to(z), z) * z, self.times[t].to(z.device)

    def noise(self, z: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """Return the predicted noise, (b, ...).

        Args:
            z, t: the codes and times that were passed to ``network_input``.
            output: the output of the network, with the shape of ``z``.
        """
        t = t.cpu()
        weight = per_sample(self.output_weight[t].to(z), z)
        if self.prediction_type == "epsilon" and not self.z_weight[t].any():
            return output  # without the rounding of a product
        return weight * output + per_sample(self.z_weight[t].to(z), z) * z


def shifted(sigmas: Tensor, shift: float) -> Tensor:
    """Return the sigmas of a flow, shifted towards more noise: shift s / (1 + (shift - 1) s).

    Args:
        sigmas: numbers from 0 to 1.
        shift: factor for s / (1 - s), above 0. 1 changes nothing.
    """
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def _numbers(value: Any, name: str, count: int) -> Tensor:
    """Check that a tensor has one finite real number per time, and return it on the CPU."""
    validate.instance(value, Tensor, name, "a torch tensor")
    if value.is_complex() or value.dtype == torch.bool or not validate.is_plain(value):
        raise TypeError(f"{name}: expected numbers, got {value.dtype}, {value.layout}")
    if value.shape != (count,) or not value.isfinite().all():
        raise ValueError(
            f"{name}: expected {count} finite numbers, one per time, got {validate.describe(value)}"
        )
    return value.detach().cpu()


def _above_zero(alphas_cumprod: Any) -> Tensor:
    """Return alpha_bar as float64. A last number of 0 is replaced by half of the number before."""
    value = validate.instance(alphas_cumprod, Tensor, "alphas_cumprod", "a torch tensor")
    if value.ndim != 1 or len(value) < 2 or not validate.is_plain(value) or value[-1] != 0:
        return value
    value = value.detach().cpu().double().clone()
    value[-1] = value[-2] / 2
    return value


def _increasing(sigmas: Any, high: float = torch.inf) -> Tensor:
    """Check sigmas, and return those above 0 in double precision on the CPU."""
    value = validate.instance(sigmas, Tensor, "sigmas", "a torch tensor")
    if value.is_complex() or not validate.is_plain(value) or value.ndim != 1:
        raise ValueError(f"sigmas: expected numbers of shape (times,), got {tuple(value.shape)}")
    value = value.detach().cpu().double()
    if len(value) and value[0] == 0:
        value = value[1:]
    inside = bool(len(value) > 1 and value[0] > 0 and value[-1] <= high and value.isfinite().all())
    if not inside or not (value.diff() > 0).all():
        limit = f" to at most {high:g}" if high < torch.inf else ""
        raise ValueError(
            f"sigmas: expected at least two finite numbers above 0, increasing{limit}, got others"
        )
    return value
