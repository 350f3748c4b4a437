"""Write an explanation to a folder: the page, tables, results and images."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from cfxnb.core.disk import cause, given_path, kind_of, shown, writing
from cfxnb.core.image_files import pixels
from cfxnb.core.outcomes import OUTCOMES
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.tensors import predicted
from cfxnb.explanation.findings import required_confidence
from cfxnb.explanation.kept import RESULTS, WORK, file_name

IMAGES = "images"
PAGE = "index.html"
SETTINGS = "settings.yaml"  # of a page that was made from settings


def checked_place(output_dir: Any, name: str = "output_dir") -> Path:
    """Return the folder, which must be new, empty, or the folder of a page, finished or not."""
    place = given_path(output_dir, name=name)
    kind = kind_of(place)
    if kind == "nothing there":
        return place
    if kind != "a folder":
        raise ValueError(f"{name}: expected a folder, got {shown(place)}: {kind}")
    own = kind_of(place / PAGE) == "a file" or kind_of(place / WORK) == "a folder"
    if any(place.iterdir()) and not own:
        raise ValueError(
            f"{name}: expected a new or empty folder, or one with an earlier {PAGE}, got "
            f"{shown(place)}, which holds other files"
        )
    return place


def stored_as(name: str, result: Any) -> str:
    """Return where a result lies in the folder of the page."""
    folder = isinstance(result, ResultFolder)
    return f"{RESULTS}/{file_name(name)}" + ("" if folder else ".safetensors")


def per_image(explanation: Any) -> pd.DataFrame:
    """Return a table with one row per image and method."""
    names, parts = explanation.class_names, []
    labels = explanation.images.labels.tolist()
    own = explanation.images.class_names
    index = explanation.images.factors.index
    for method, cf in explanation.brief.items():
        before, after = predicted(cf.logits_before).tolist(), predicted(cf.logits_after).tolist()
        seen = explanation.judged.get(method)
        goal = set(OUTCOMES) <= cf.trace.keys()
        outcomes = cf.outcomes[["before", "after"]].add_prefix("outcome ") if goal else None
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
                | ({} if outcomes is None else {k: outcomes[k].to_numpy() for k in outcomes})
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
        _store_results(explanation, place)
        explanation.table.to_csv(place / "methods.csv", index_label="method")
        explanation.to_frame().to_csv(place / "images.csv", index=False)
        table = pd.DataFrame([dataclasses.asdict(each) for each in explanation.findings])
        table.to_csv(place / "findings.csv", index=False)
        if skipped is not None and len(skipped):
            skipped.to_csv(place / "skipped.csv", index=False)
        if explanation.changes is not None:
            explanation.changes.global_.to_csv(place / "changes.csv")
        shutil.rmtree(place / IMAGES, ignore_errors=True)
        rows = explanation.rows[explanation.shown]
        originals = explanation.images[explanation.shown].images
        _write_images(originals, place / IMAGES / "original", rows)
        for method, cf in explanation.samples.items():
            _write_images(cf.image, place / IMAGES / file_name(method), rows)
    except OSError as error:
        raise ValueError(
            f"{name}: expected a folder that can be written, got {shown(place)}: {cause(error)}"
        ) from None
    with writing(place / PAGE, name) as partial:
        partial.write_text(explanation.html(), encoding="utf-8")
    return place / PAGE


def _store_results(explanation: Any, place: Path) -> None:
    """Write all results, and remove those of earlier pages."""
    (place / RESULTS).mkdir(exist_ok=True)
    wanted = {place / stored_as(name, each) for name, each in explanation.results.items()}
    for old in set((place / RESULTS).iterdir()) - wanted:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for name, result in explanation.results.items():
        own = place / stored_as(name, result)
        if not isinstance(result, ResultFolder):
            result.to("cpu").save(own)
        elif result.path.resolve() != own.resolve():
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(result.path, own)
    if explanation.heat_maps is not None:
        explanation.heat_maps.save(place / RESULTS / "heat_maps")


def _write_images(images: Tensor, folder: Path, rows: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for row, image in zip(rows.tolist(), images, strict=True):
        Image.fromarray(pixels(image)).save(folder / f"{row:06d}.png")
