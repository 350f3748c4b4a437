"""StyleGAN2 as a space, with codes in W, W+ or StyleSpace.

Real images are encoded by gradient descent, see ``cfxnb.spaces.projection``.
"""

import inspect
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedFunction
from cfxnb.core.code_covariance import MAX_DIMS, principal_axes
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code, OnStep
from cfxnb.nets.stylegan2 import Generator
from cfxnb.spaces.checkpoints.stylegan2_files import architecture, read_checkpoint
from cfxnb.spaces.projection import Distance, Projection

LATENTS = ("w", "w+", "s")


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator as a space. The noise of the generator is fixed, so that a code
    determines the image.

    Codes are in one of three latent spaces (Abdal et al., arXiv 1904.03189; Wu et al., arXiv
    2011.12799):

    - ``"w"``: (b, w_dim), one vector for all layers. W is the smoothest of the three latent spaces,
      and reconstructs real images worst.
    - ``"w+"``: (b, num_ws, w_dim), one vector per layer.
    - ``"s"``: (b, style_dim), one number per channel. StyleSpace is the most disentangled of the
      three latent spaces. The styles of the toRGB layers only change colours. The space sets the
      ``std`` of toRGB styles to 0, so that searches don't change these styles.

    Args:
        net: the generator. The space runs on the device of ``net``.
        latent: the latent space of the codes, ``"w"``, ``"w+"`` or ``"s"``.
        w_avg_samples: number of samples from which ``mean`` and ``std`` are computed.
        projection: arguments that ``encode`` passes to ``project``.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: Generator,
        latent: str = "w",
        *,
        w_avg_samples: int = 4096,
        projection: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net: Generator = validate.instance(net, Generator, "net", "a StyleGAN2 Generator")
        self.latent = validate.choice(latent, "latent", LATENTS)
        given = {} if projection is None else projection
        self.projection = dict(validate.instance(given, dict, "projection"))
        known = set(inspect.signature(self.project).parameters) - {"images"}
        if unknown := [name for name in self.projection if name not in known]:
            raise ValueError(
                f"projection: expected arguments of project, {sorted(known)}, got "
                f"{unknown[0]!r:.60}"
            )
        with torch.no_grad():
            w = self._draw(validate.count(w_avg_samples, "w_avg_samples", 2), seed=0)
            codes = net.styles(net.spread_out(w)) if latent == "s" else w
            mean, std = codes.mean(0), codes.std(0)
        if latent == "s":
            # Methods don't change coordinates with std 0.
            std = torch.where(net.in_rgb, 0.0, std)
        if latent == "w+":
            mean, std = (t.repeat(net.num_ws, 1) for t in (mean, std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        small = latent == "w" and mean.numel() <= MAX_DIMS
        axes, variances = principal_axes(w, std) if small else (None, None)
        self.register_buffer("axes", axes)
        self.register_buffer("variances", variances)

    def _draw(self, count: int, seed: int) -> Tensor:
        return self.net.mapping(
            noise_like(self.net.mapping.w_avg.new_empty(count, self.net.z_dim), seed)
        )

    @standard_numbers
    def from_w(self, w: Tensor) -> Code:
        """Return the code in this space that makes the same image as ``w`` in W, (b, w_dim)."""
        validate.code_like(w, "w", (self.net.mapping.w_avg.shape[-1],))
        if self.latent == "w":
            return Code(w)
        w_plus = self.net.spread_out(w)
        return Code(w_plus.clone() if self.latent == "w+" else self.net.styles(w_plus))

    @standard_numbers
    def sample(self, n_samples: int, seed: int = 0, truncation_psi: float = 1.0) -> Code:
        """Sample codes of new images. Sample i depends only on (seed, i).

        Args:
            truncation_psi: 1 samples from the learned distribution, 0 gives the mean image. Values
                between 0 and 1 give more typical and less varied images.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        n_samples, seed = validate.count(n_samples, "n_samples"), validate.count(seed, "seed")
        psi = validate.number(truncation_psi, "truncation_psi", 0.0)
        with torch.no_grad():
            return self.from_w(self.net.truncate(self._draw(n_samples, seed), psi))

    @standard_numbers
    def decode(self, code: Code) -> Tensor:
        """Return images (b, c, r, r) in [0, 1], on the device of the code.

        Differentiable in ``code.z``.

        Raises:
            ValueError: if the codes don't have the shape of this space.
        """
        validate_results.code(code, "code")
        if code.z.shape[1:] != self.mean.shape:
            raise ValueError(
                f"code: expected z of shape (b, {', '.join(map(str, self.mean.shape))}) in "
                f"{self.latent!r}, got {tuple(code.z.shape)}"
            )
        return self._unclamped(code.z.to(self.mean.device)).clamp(0, 1).to(code.z.device)

    def _unclamped(self, z: Tensor) -> Tensor:
        if self.latent == "w":
            z = self.net.spread_out(z)
        return (self.net.render(z if self.latent == "s" else self.net.styles(z)) + 1) / 2

    def encode(self, images: Tensor) -> Code:
        """Return the codes of images (b, c, r, r) in [0, 1], found by ``project``."""
        return self.project(images, **self.projection)

    @standard_numbers
    def project(
        self,
        images: Tensor,
        *,
        steps: int = 300,
        lr: float = 0.1,
        n_starts: int = 64,
        distance: Distance | None = None,
        distance_weight: float = 1.0,
        batch_size: int = 16,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> Code:
        """Find the code of each image by gradient descent, see ``cfxnb.spaces.projection``.

        The loss is the mean squared difference of pixels, plus ``distance_weight * distance``. The
        search starts at the best of the mean code and ``n_starts`` random codes. The result is the
        best code that the search evaluated.

        Args:
            images: (b, c, r, r) in [0, 1], where r is the resolution of the generator.
            steps: number of gradient steps.
            lr: initial learning rate of Adam, in standard deviations of the code. The learning rate
                decays to 0 with a cosine schedule.
            n_starts: number of random codes from which the start is chosen. All images use the same
                random codes.
            distance: additional distance (images, images) -> (b,) of images in [0, 1], such as
                LPIPS.
            distance_weight: weight of ``distance`` in the loss.
            batch_size: Images per batch. A larger batch needs more memory and is faster, with the
                same results.
            seed: seed of the random codes.
            on_step: called after each evaluation with a Step whose ``probability`` is exp(-loss).
                If ``on_step`` returns True, the search of the current batch stops.

        Returns:
            A Code with one z per image, on the device of ``images``.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        images = validate.images(images)
        shape = (self.net.colours, self.net.resolution, self.net.resolution)
        if images.shape[1:] != shape:
            raise ValueError(
                f"images: expected shape (b, {', '.join(map(str, shape))}) in this space, "
                f"got {tuple(images.shape)}"
            )
        steps = validate.count(steps, "steps", 1)
        validate.number(lr, "lr", 0.0, open_low=True)
        validate.count(n_starts, "n_starts")
        if distance is not None:
            distance = CheckedFunction(distance, "distance", dims=1)
        validate.number(distance_weight, "distance_weight", 0.0)
        batch_size = validate.count(batch_size, "batch_size", 1)
        validate.on_step(on_step)
        search = Projection(self._unclamped, self.std, distance, distance_weight)
        found = []
        with eval_frozen(self, distance), torch.enable_grad():
            drawn = self.sample(n_starts, seed).z
            codes = torch.cat([self.from_w(self.net.mapping.w_avg[None]).z, drawn])
            for rows in torch.arange(len(images), device=self.mean.device).split(batch_size):
                wanted = images[rows.to(images.device)].to(self.mean.device)
                start = search.nearest(wanted, codes, batch_size)
                found.append(search.run(wanted, start, rows, steps, lr, on_step))
        return Code(torch.cat(found).to(images.device))


@standard_modes
def load_stylegan2(
    path: str | os.PathLike, *, latent: str = "w", device: str | torch.device | None = None
) -> StyleGAN2:
    """Load a StyleGAN2 checkpoint as a space.

    The function reads NVIDIA's ``.pkl``, rosinality's ``.pt`` and ``.safetensors``. No code in the
    file is executed. The architecture follows from the shapes of the weights.

    Args:
        path: the checkpoint, at most 2 GiB.
        latent: the latent space of the codes, ``"w"``, ``"w+"`` or ``"s"``.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.

    Warns:
        UserWarning: if the file has no fixed noise maps, such as rosinality's training files.
            Missing noise maps are drawn from a fixed seed, so that images differ in fine detail
            from those of the author of the file.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the file is damaged, is not a
            StyleGAN2 checkpoint, or would execute code. Error messages about the file begin with
            "path:".
    """
    validate.choice(latent, "latent", LATENTS)
    where = validate.device(device)
    state = read_checkpoint(path)
    with torch.random.fork_rng(devices=[]):
        net = Generator(**architecture(state))
    averaged, drawn = "mapping.w_avg" in state, _noise_images(net, state)
    if drawn:
        warnings.warn(
            f"path: {os.path.basename(path)} has no fixed noise images; drew {len(drawn)} from a "
            "fixed seed. Images can differ in fine detail from those of other programs",
            stacklevel=3,
        )
    net.load_state_dict(state | drawn, strict=averaged)
    space = StyleGAN2(net.eval().requires_grad_(False).to(where), latent)
    if not averaged:
        net.mapping.w_avg.copy_(space._draw(4096, seed=0).mean(0))
    return space.eval().requires_grad_(False)


def _noise_images(net: Generator, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw noise maps, each from its own seed, for the layers that have none in ``state``."""
    names = [name for name in net.state_dict() if name.endswith(".noise_const")]
    drawn = {
        name: noise_like(net.get_buffer(name)[None], seed=number)[0]
        for number, name in enumerate(names)
    }
    return {name: draw for name, draw in drawn.items() if name not in state}
