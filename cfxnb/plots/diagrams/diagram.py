"""The diagrams by name, and how a notebook shows them."""

import base64
import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfxnb.core import validate
from cfxnb.core.disk import given_path, shown, writing
from cfxnb.plots.diagrams import causes, codes, diffusion, paths
from cfxnb.plots.diagrams.canvas import WIDTH, Canvas

#: Name -> the function that draws it.
DIAGRAMS: dict[str, Callable[[], Canvas]] = {
    "autoencoder": codes.autoencoder,
    "latent_attack": codes.latent_attack,
    "described_change": codes.described_change,
    "global_direction": codes.global_direction,
    "ddim": diffusion.ddim,
    "guidance": diffusion.guidance,
    "consensus": diffusion.consensus,
    "shortcut": causes.shortcut,
    "twin_network": causes.twin_network,
    "necessity_sufficiency": causes.necessity_sufficiency,
    "integrated_gradients": paths.integrated_gradients,
    "flow": paths.flow,
}
# An image in a page can't see the theme of JupyterLab or VS Code, but it takes the colour scheme
# that the page gives it. Elsewhere it follows the page's own colour scheme.
THEMES = (
    '[data-jp-theme-light="true"] .cfxnb-diagram,.vscode-light .cfxnb-diagram{color-scheme:light}'
    '[data-jp-theme-light="false"] .cfxnb-diagram,.vscode-dark .cfxnb-diagram{color-scheme:dark}'
)


class Diagram:
    """A diagram with its alternative text, which a notebook displays.

    The diagram is readable on light and on dark pages, and sharp at any size.

    Attributes:
        title: Short name of the diagram.
        alt: Text that describes the diagram.
        svg: The diagram as SVG, str.
    """

    def __init__(self, title: str, alt: str, svg: str) -> None:
        for value, name in ((title, "title"), (alt, "alt"), (svg, "svg")):
            if not validate.instance(value, str, name, "a text").strip():
                raise ValueError(f"{name}: expected a text, got an empty one")
        if not svg.startswith("<svg"):
            raise ValueError(f"svg: expected a text that begins with <svg, got {svg!r:.80}")
        self.title, self.alt, self.svg = title, alt, svg

    def save(self, path: str | os.PathLike) -> Path:
        """Write the diagram to a file, and return the path of the file.

        Args:
            path: Path of the file, which must end with ``.svg``. Missing folders are created. An
                existing file is replaced, or kept if writing fails.

        Raises:
            ValueError, TypeError: If the path has another ending or cannot be written to.
        """
        place = given_path(path)
        if place.suffix.lower() != ".svg":
            raise ValueError(f"path: expected a name that ends with .svg, got {shown(path)}")
        with writing(place) as partial:
            partial.write_text(self.svg, encoding="utf-8")
        return place

    def html(self) -> str:
        """Return the diagram as an HTML image with the alternative text."""
        source = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<style>{THEMES}</style><div style="overflow-x:auto"><img class="cfxnb-diagram" '
            f'alt="{html.escape(self.alt)}" style="width:100%;max-width:{WIDTH}px;'
            f'min-width:{WIDTH - 180}px" src="data:image/svg+xml;base64,{source}"></div>'
        )

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"text/html": self.html(), "image/svg+xml": self.svg, "text/plain": self.alt}
        return data, {"image/svg+xml": {"alt": self.alt}}

    def __repr__(self) -> str:
        return f"Diagram: {self.alt}"


def diagram(name: str) -> Diagram:
    """Return a diagram that shows the idea of a method or a concept.

    Args:
        name: One of:

            - "autoencoder": encoder, code, decoder, and the two terms of a VAE's loss.
            - "latent_attack": an attack in pixel space and in code space.
            - "described_change": a change of a code, its part with names, and the rest.
            - "global_direction": probes around a code, a fitted score, one step for many images.
            - "ddim": the chain of DDIM from image to noise and back.
            - "guidance": the difference of two predictions as an implicit classifier.
            - "consensus": the cone in which the classifier's gradient is used (LDCE).
            - "shortcut": causal graph with a planted cause and a factor that is only correlated.
            - "twin_network": abduction, action and prediction.
            - "necessity_sufficiency": the probabilities PN, PS and PNS, counted on images.
            - "integrated_gradients": a straight path and a path through codes.
            - "flow": lift and land, and the walk along the difference of two flows.

    Raises:
        ValueError, TypeError: If there is no diagram of this name.

    Example::

        cfx.diagram("latent_attack")
    """
    drawn = DIAGRAMS[validate.choice(name, "name", DIAGRAMS)]()
    return Diagram(drawn.title, drawn.alt, drawn.svg())
