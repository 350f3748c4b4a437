"""A variational autoencoder as a space."""

from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.code_covariance import principal_axes
from cfxnb.core.model_folder import STATISTICS, Carded
from cfxnb.core.modes import standard_numbers
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code


class VAE(Carded, nn.Module):
    """A variational autoencoder as a space. The code of an image is its posterior mean.

    Encoding is deterministic. Decoding is differentiable in ``z``.

    Args:
        net: network with ``posterior(images) -> (mean, log_variance)`` and ``decode(z) -> images``.
            The space runs on the device of ``net``.
        mean, std: mean and standard deviation of the codes of real images, with the shape of one
            code. ``measure_code_statistics`` computes them.
        axes, variances: active axes of the standardised codes, (k, d), and the variance along each
            axis, (k,). ``measure_code_statistics`` computes them. ``find_directions`` uses these
            axes. Default: unknown.
        prior: distribution from which ``sample`` draws. ``"normal"`` (default) is N(0, 1), as in
            training. ``"codes"`` is the normal distribution with mean and covariance of the codes
            of real images, which needs ``axes`` and ``variances``. Codes with a place in the image
            depend on each other, and their samples are much better with ``"codes"``.
    """

    mean: Tensor
    std: Tensor
    axes: Tensor | None
    variances: Tensor | None

    def __init__(
        self,
        net: Any,
        mean: Tensor,
        std: Tensor,
        axes: Tensor | None = None,
        variances: Tensor | None = None,
        prior: str = "normal",
    ) -> None:
        super().__init__()
        validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        validate.having(net, ("posterior", "decode"), "net", "posterior and decode")
        self.net: Any = net
        mean, std = validate.place(mean, std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        axes, variances = validate.place_axes(axes, variances, mean)
        self.register_buffer("axes", axes)
        self.register_buffer("variances", variances)
        self.prior = validate.choice(prior, "prior", ("normal", "codes"))
        if self.prior == "codes" and axes is None:
            raise ValueError("axes: expected axes and variances for prior='codes', got None")

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Carded]]:
        return self.net, {name: getattr(self, name, None) for name in STATISTICS}, {}

    @standard_numbers
    def encode(self, images: Tensor) -> Code:
        """Return the codes of images.

        Args:
            images: (b, c, h, w) in [0, 1].

        Returns:
            A Code with z of shape (b, dims), on the device of ``images``.

        Raises:
            ValueError: if the network was made for images of another shape.
        """
        images = validate.pixels(images)
        sides = getattr(self.net, "size", images.shape[2:])
        shape = (getattr(self.net, "channels", images.shape[1]), *sides)
        if images.shape[1:] != shape:
            raise ValueError(
                f"images: expected shape (b, {', '.join(map(str, shape))}) in this space, "
                f"got {tuple(images.shape)}"
            )
        mean, _ = self.net.posterior(images.to(self.mean.device))
        return Code(mean.to(images.device))

    @standard_numbers
    def decode(self, code: Code) -> Tensor:
        """Return the images of codes, in [0, 1], on the device of the code.

        Raises:
            ValueError: if the codes don't have the shape of this space.
        """
        validate_results.code(code, "code", tuple(self.mean.shape))
        return self.net.decode(code.z.to(self.mean)).to(code.z.device)

    @standard_numbers
    def sample(self, n_samples: int, seed: int = 0) -> Code:
        """Sample codes from the prior. Sample i depends only on (seed, i)."""
        rows, seed = validate.count(n_samples, "n_samples"), validate.seed(seed)
        if self.axes is None or self.variances is None or self.prior == "normal":
            return Code(noise_like(self.mean.new_empty(rows, *self.mean.shape), seed))
        noise = noise_like(self.mean.new_empty(rows, len(self.axes)), seed)
        along = (noise * self.variances.sqrt() @ self.axes).view(rows, *self.mean.shape)
        return Code(self.mean + self.std * along)


@torch.no_grad()
def measure_code_statistics(net: Any, images: Tensor, batch_size: int = 512) -> dict[str, Tensor]:
    """Return the statistics of the codes of ``images``, as arguments of ``VAE``.

    ``mean`` and ``std`` are the mean and standard deviation of each coordinate. ``axes`` and
    ``variances`` are the active axes of the standardised codes, see ``cfxnb.core.code_covariance``.
    """
    codes = torch.cat([net.posterior(chunk)[0] for chunk in images.split(batch_size)])
    mean, std = codes.mean(0), codes.std(0)
    axes, variances = principal_axes(codes, std)
    return {"mean": mean, "std": std, "axes": axes, "variances": variances}
