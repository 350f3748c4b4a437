"""The README's picture, from the shipped models: ``python docs/picture.py``."""

from pathlib import Path

import torch

import cfxnb as cfx
from cfxnb.plots import draw, figure, picture

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
    target_file.write_bytes(picture(fig, "Originals, counterfactuals, pixel attacks").png)


if __name__ == "__main__":
    main()
