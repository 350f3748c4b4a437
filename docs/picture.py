"""The README's pictures, from the shipped models: ``python docs/picture.py``."""

from pathlib import Path

import pandas as pd
import torch

import cfxnb as cfx
from cfxnb.plots.pictures import as_picture, draw, figure

COLUMNS = (3, 2, 1, 18, 4, 8, 11, 0)  # test digits, chosen for variety


def main() -> None:
    space, explained = cfx.load("digits/vae"), cfx.load("digits/classifier")
    judge = cfx.load("digits/judge")
    test = cfx.data.digits()[list(COLUMNS)]
    target = (test.labels + 1) % 10
    rows = {
        "original": test.images,
        "counterfactual": cfx.latent_attack(space, explained, test.images, target).image,
        "pixel attack": cfx.pixel_attack(explained, test.images, target).image,
    }
    fig, axes = figure(len(rows), len(COLUMNS), (9.6, 4.6))
    with torch.no_grad():
        for line, (name, images) in zip(axes, rows.items(), strict=True):
            seen = explained(images).argmax(1).tolist()
            read = judge(images).argmax(1).tolist()
            for place, image, a, b in zip(line, images, seen, read, strict=True):
                draw(place, image, f"classifier {a}\njudge {b}")
            line[0].set_ylabel(name, fontsize=11)
    target_file = Path(__file__).with_name("picture.png")
    target_file.write_bytes(as_picture(fig, "Originals, counterfactuals, pixel attacks").png)


def contrastive() -> None:
    """One figure of the class "red" by red hair and a metal top together; each factor edited."""
    space, explained = cfx.load("sprites/vae"), cfx.load("sprites/conjunction")
    figures = cfx.data.sprites("pairs", 1000, split="test", seed=4)
    in_contrast = pd.DataFrame(
        {n: figures.factors[n].isin(pair) for n, pair in cfx.data.SPRITE_CONTRASTS.items()}
    )
    red = pd.Series(cfx.predict_logits(explained, figures.images).argmax(1) == 1)
    row = int((in_contrast.all(axis=1) & red).to_numpy().argmax())
    strip = cfx.edit_strip(
        space,
        explained,
        cfx.load("sprites/edits_preserve"),
        figures.images[row : row + 1],
        figures.factors.iloc[row : row + 1],
        class_names=cfx.data.SPRITE_CONTRASTS["hair"],
    )
    Path(__file__).with_name("contrastive.png").write_bytes(strip.png)
    print(strip.alt)


def smiles() -> None:
    """Every so many of the test faces, not chosen for what comes out."""
    space, f = cfx.load("faces/ldm"), cfx.load("faces/smile")
    judge = cfx.load("faces/judge")
    images = cfx.data.faces().images[100::400][: len(COLUMNS)]
    target = 1 - cfx.predict_logits(f, images).argmax(1)
    ours = cfx.diffusion_counterfactual(space, f, images, target, composite_threshold=0.1)
    rows = {
        "original": images,
        "consensus": ours.image,
        "pixel attack": cfx.pixel_attack(f, images, target).image,
    }
    fig, axes = figure(len(rows), len(COLUMNS), (9.6, 4.6))
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        seen = cfx.predict_logits(f, pictures).argmax(1).tolist()
        read = cfx.predict_logits(judge, pictures, 32).argmax(1).tolist()
        for place, image, a, b in zip(line, pictures, seen, read, strict=True):
            words = ("no", "smile")
            draw(place, image, f"classifier: {words[a]}\njudge: {words[b]}")
        line[0].set_ylabel(name, fontsize=11)
    target_file = Path(__file__).with_name("smiles.png")
    target_file.write_bytes(as_picture(fig, "Faces, counterfactuals, pixel attacks").png)


def smile_direction() -> None:
    """Every so many of the test faces, moved along one direction that queries alone have found."""
    space, judge = cfx.load("faces/diffae"), cfx.load("faces/judge")
    box = cfx.BlackBox(cfx.load("faces/smile"))
    # Ten denoising steps suffice to find the direction. The pictures are drawn with more.
    found = cfx.find_directions(
        space.with_steps(10), box, cfx.data.faces("train").images[:32], 1, n_curvature=0
    )
    print(found)
    images = cfx.data.faces().images[::169][:20]
    moved = cfx.follow_direction(space, box, images, found.g, confidence=0.99)
    read = cfx.predict_logits(judge, moved.image, 32).argmax(1)
    words = ("no smile", "smile")
    fig, axes = figure(4, 10, (10.5, 5.2))
    for i in range(len(images)):
        top, below = axes[2 * (i // 10)][i % 10], axes[2 * (i // 10) + 1][i % 10]
        draw(top, images[i], "")
        sure = "" if moved.flipped[i] else "not moved\n"
        draw(below, moved.image[i], f"{sure}judge: {words[read[i]]}")
    for row, name in enumerate(("original", "moved") * 2):
        axes[row][0].set_ylabel(name, fontsize=11)
    target_file = Path(__file__).with_name("smile_direction.png")
    target_file.write_bytes(as_picture(fig, "Faces, moved along one direction").png)


if __name__ == "__main__":
    main()
    contrastive()
    smiles()
    smile_direction()
