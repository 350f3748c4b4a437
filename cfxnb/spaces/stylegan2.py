"""StyleGAN2 as a space: codes in W, W+ or StyleSpace, and real images by projection."""

import inspect
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code, OnStep
from cfxnb.nets.stylegan2 import Generator
from cfxnb.spaces.checkpoints.stylegan2_files import architecture, read_checkpoint
from cfxnb.spaces.projection import Distance, Projection

LATENTS = ("w", "w+", "s")


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator with its noise fixed, so that an image is a function of its code.

    The latent spaces (Abdal et al., arXiv 1904.03189; Wu et al., arXiv 2011.12799):

    - ``"w"``: (b, w_dim), one code for all layers: the most regular, the worst at real images;
    - ``"w+"``: (b, num_ws, w_dim), one code a layer;
    - ``"s"``: (b, style_dim), one number a channel: the most separate. Styles of toRGB only
      colour the result; their ``std`` is next to 0, so that searches leave them alone.

    Args:
        net: the generator; its weights decide where the work runs.
        latent: the space of the codes, one of the above.
        w_avg_samples: samples of which ``mean`` and ``std`` are mean and standard deviation.
        projection: arguments of ``project`` with which ``encode`` calls it.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
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
            # Colour styles are left alone by every search: they carry nothing, it is told.
            std = torch.where(net.in_rgb, 0.0, std)
        if latent == "w+":
            mean, std = (t.repeat(net.num_ws, 1) for t in (mean, std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def _draw(self, count: int, seed: int) -> Tensor:
        return self.net.mapping(
            noise_like(self.net.mapping.w_avg.new_empty(count, self.net.z_dim), seed)
        )

    @standard_numbers
    def from_w(self, w: Tensor) -> Code:
        """W (b, w_dim) -> the code of the same image in this space."""
        validate.code_like(w, "w", (self.net.mapping.w_avg.shape[-1],))
        if self.latent == "w":
            return Code(w)
        w_plus = self.net.spread_out(w)
        return Code(w_plus.clone() if self.latent == "w+" else self.net.styles(w_plus))

    @standard_numbers
    def sample(self, n_samples: int, seed: int = 0, truncation_psi: float = 1.0) -> Code:
        """Codes of ``n_samples`` generated images, one draw a sample from (seed, index).

        Args:
            truncation_psi: 1 for the distribution learnt, 0 for the mean image; between them typical
                images in exchange for variety.

        Raises:
            ValueError, TypeError: for a wrong argument, naming it.
        """
        n_samples, seed = validate.count(n_samples, "n_samples"), validate.count(seed, "seed")
        psi = validate.number(truncation_psi, "truncation_psi", 0.0)
        with torch.no_grad():
            return self.from_w(self.net.truncate(self._draw(n_samples, seed), psi))

    @standard_numbers
    def decode(self, code: Code) -> Tensor:
        """Images (b, c, r, r) in [0, 1], where the code is; differentiable in ``code.z``.

        Raises:
            ValueError: if the code has another shape than those of this space.
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
        """(b, c, r, r) in [0, 1] -> their codes by ``project``, where the images are."""
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
        """Find the code whose image is nearest, by gradient (``cfxnb.spaces.projection``).

        Minimises the mean squared difference of pixels, plus ``distance_weight * distance``. Each image
        starts at the nearest of the mean and ``n_starts`` seeded draws, and keeps its best look.

        Args:
            images: (b, c, r, r) in [0, 1], of the generator's size.
            steps: gradient steps.
            lr: Adam's first step length in units of ``std``; it falls to 0 by a cosine.
            n_starts: draws to choose the start from, the same for each image.
            distance: (images, images) in [0, 1] -> (b,), such as LPIPS.
            distance_weight: of the distance.
            batch_size: samples worked on together; bounds the memory, never changes a result.
            seed: of the draws.
            on_step: called with a Step after each look; ``probability`` is exp(-loss) there.
                Returning True stops the search of the present batch.

        Returns:
            A Code with z like ``mean`` for each image, where the images are.

        Raises:
            ValueError, TypeError: for a wrong argument, naming it.
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
        validate.optional(validate.function, distance, "distance")
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
    """A StyleGAN2 from NVIDIA's ``.pkl``, rosinality's ``.pt`` or ``.safetensors``, as a space.

    Nothing in the file is executed. Architecture and sizes are read off the weights' shapes.

    Args:
        path: the checkpoint, at most 2 GiB.
        latent: the space of the codes: ``"w"``, ``"w+"`` or ``"s"``.
        device: where it shall run; by default CUDA or MPS when there is one.

    Warns:
        UserWarning: if the file has no fixed noise images, as training files of rosinality's have
            none. They are drawn from a seed then: the same ones each time, and others than those
            with which the file's author drew images. They change fine detail only.

    Raises:
        ValueError, TypeError: for a wrong argument, and for a file that is damaged, is no such
            checkpoint, or asks for anything to be executed; the message names ``path``.
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
            "seed, always the same ones. Images can differ in fine detail from those elsewhere",
            stacklevel=3,
        )
    net.load_state_dict(state | drawn, strict=averaged)
    space = StyleGAN2(net.eval().requires_grad_(False).to(where), latent)
    if not averaged:
        net.mapping.w_avg.copy_(space._draw(4096, seed=0).mean(0))
    return space.eval().requires_grad_(False)


def _noise_images(net: Generator, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Noise images for layers that have none in ``state``, each from its own seed."""
    names = [name for name in net.state_dict() if name.endswith(".noise_const")]
    drawn = {
        name: noise_like(net.get_buffer(name)[None], seed=number)[0]
        for number, name in enumerate(names)
    }
    return {name: draw for name, draw in drawn.items() if name not in state}
