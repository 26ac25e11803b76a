"""Pictures with more or less noise, and people who judge them by mean squared error alone."""

import numpy as np
from PIL import Image

REFERENCES, COPIES = 6, 5


def draw(folder):
    """Six coarse pictures, five copies of each with more or less noise; returns {name: uint8 image}."""
    rng = np.random.default_rng(0)
    drawn = {}
    folder.mkdir(parents=True, exist_ok=True)
    for reference in range(REFERENCES):
        coarse = rng.integers(60, 190, (5, 5, 3))
        clean = np.kron(coarse, np.ones((8, 8, 1)))
        for copy in range(COPIES + 1):
            noise = rng.normal(0, 1, clean.shape) * rng.uniform(5, 50) * (copy > 0)
            drawn[f"r{reference}-{copy}.png"] = (clean + noise).clip(0, 255).astype(np.uint8)
    for name, image in drawn.items():
        Image.fromarray(image).save(folder / name)
    return drawn


def mse(a, b):
    return float(((a / 255.0 - b / 255.0) ** 2).mean())


def draw_triplets(folder):
    """A folder of the layout `triplets`, with a training and a test part."""
    drawn = draw(folder / "images")
    rng = np.random.default_rng(1)
    for split, num in (("train", 60), ("test", 30)):
        lines = ["reference,a,b,votes_a,votes_b"]
        for _ in range(num):
            r, (a, b) = rng.integers(REFERENCES), rng.permutation(np.arange(1, COPIES + 1))[:2]
            names = [f"r{r}-{copy}.png" for copy in (0, a, b)]
            near_a = mse(drawn[names[0]], drawn[names[1]]) < mse(drawn[names[0]], drawn[names[2]])
            lines.append(",".join([*names, *(("3", "0") if near_a else ("0", "3"))]))
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return drawn
