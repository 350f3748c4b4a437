"""Write an explanation to a folder: the page, tables, results and images."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from cfxnb.core.disk import cause, shown, writing
from cfxnb.core.image_files import pixels
from cfxnb.core.tensors import predicted
from cfxnb.explanation.findings import required_confidence

PAGE = "index.html"
SETTINGS = "settings.yaml"  # of a page that was made from settings


def file_name(name: str) -> str:
    """Return the name of a method as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "method"


def per_image(explanation: Any) -> pd.DataFrame:
    """Return a table with one row per image and method."""
    names, parts = explanation.class_names, []
    labels = explanation.images.labels.tolist()
    own = explanation.images.class_names
    index = explanation.images.factors.index
    for method, cf in explanation.results.items():
        before, after = predicted(cf.logits_before).tolist(), predicted(cf.logits_after).tolist()
        seen = explanation.judged.get(method)
        parts.append(
            pd.DataFrame(
                {
                    "row": explanation.rows,
                    "file": [str(i) for i in index],
                    "label": [own[i] for i in labels],
                    "method": method,
                    "before": [names[i] if i >= 0 else "" for i in before],
                    "target": [names[i] for i in cf.target.tolist()],
                    "after": [names[i] if i >= 0 else "" for i in after],
                    "status": list(cf.status),
                    "required confidence": required_confidence(cf),
                    "probability of target": cf.confidence.cpu().numpy(),
                    "judge sees target": "" if seen is None else seen.cpu().numpy(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def save(
    explanation: Any,
    place: Path,
    skipped: pd.DataFrame | None = None,
    name: str = "output_dir",
) -> Path:
    """Write everything to a folder, and return the path of the page, which is written last.

    Args:
        explanation: What is written.
        place: The folder.
        skipped: Files of the data that were skipped.
        name: Name of the argument that holds the folder, for messages.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / SETTINGS).unlink(missing_ok=True)  # of an earlier page
        for part in ("results", "images"):
            shutil.rmtree(place / part, ignore_errors=True)
            (place / part).mkdir()
        explanation.table.to_csv(place / "methods.csv", index_label="method")
        explanation.to_frame().to_csv(place / "images.csv", index=False)
        table = pd.DataFrame([dataclasses.asdict(each) for each in explanation.findings])
        table.to_csv(place / "findings.csv", index=False)
        if skipped is not None and len(skipped):
            skipped.to_csv(place / "skipped.csv", index=False)
        if explanation.changes is not None:
            explanation.changes.global_.to_csv(place / "changes.csv")
        for method, cf in explanation.results.items():
            cf.to("cpu").save(place / "results" / file_name(method))
            _write_images(cf.image, place / "images" / file_name(method), explanation.rows)
        if explanation.heat_maps is not None:
            explanation.heat_maps.save(place / "results" / "heat_maps")
        _write_images(explanation.images.images, place / "images" / "original", explanation.rows)
    except OSError as error:
        raise ValueError(
            f"{name}: expected a folder that can be written, got {shown(place)}: {cause(error)}"
        ) from None
    with writing(place / PAGE, name) as partial:
        partial.write_text(explanation.html(), encoding="utf-8")
    return place / PAGE


def _write_images(images: Tensor, folder: Path, rows: np.ndarray) -> None:
    folder.mkdir()
    for row, image in zip(rows.tolist(), images, strict=True):
        Image.fromarray(pixels(image)).save(folder / f"{row:06d}.png")
