"""How often metrics agree with people on the two-alternative judgments of BAPPS."""

from __future__ import annotations

SOURCE = "Zhang, Isola, Efros, Shechtman, Wang 2018"
NOTE = ("Table 5 of arXiv:1801.03924: share of the judges who agree with a metric on which of two distorted 64 px patches is "
        "nearer to the original, on the validation sets of BAPPS. The last column of each block is the mean of its sets, "
        "each set counted alike. No intervals were published.")  # fmt: skip
# The folder of each validation set, and its column; then the columns that are means over sets.
SUBSETS: dict[str, str] = {
    "traditional": "traditional", "cnn": "CNN", "superres": "super-resolution", "deblur": "deblurring",
    "color": "colourisation", "frameinterp": "interpolation",
}  # fmt: skip
MEANS: dict[str, tuple[str, ...]] = {
    "distortions": ("traditional", "cnn"), "algorithms": ("superres", "deblur", "color", "frameinterp"),
    "all": tuple(SUBSETS),
}  # fmt: skip
COLUMNS: dict[str, str] = {
    "traditional": SUBSETS["traditional"], "cnn": SUBSETS["cnn"], "distortions": "mean of both", "superres": SUBSETS["superres"],
    "deblur": SUBSETS["deblur"], "color": SUBSETS["color"], "frameinterp": SUBSETS["frameinterp"],
    "algorithms": "mean of four", "all": "mean of six",
}  # fmt: skip
HUMAN = "human"
_PER_CENT: dict[str, tuple[float, ...]] = {
    HUMAN: (80.8, 84.4, 82.6, 73.4, 67.1, 68.8, 68.6, 69.5, 73.9),
    "L2": (59.9, 77.8, 68.9, 64.7, 58.2, 63.5, 55.0, 60.3, 63.2),
    "SSIM": (60.3, 79.1, 69.7, 65.1, 58.6, 58.1, 57.7, 59.8, 63.1),
    "random-weight network": (60.5, 80.7, 70.6, 64.9, 59.5, 62.8, 57.2, 61.1, 64.3),
    "k-means initialisation": (66.6, 83.0, 74.8, 67.3, 59.8, 63.1, 59.8, 62.5, 66.6),
    "split-brain": (69.5, 81.4, 75.5, 69.6, 59.3, 64.3, 61.1, 63.6, 67.5),
    "BiGAN": (69.8, 83.0, 76.4, 70.7, 60.5, 63.7, 62.5, 64.4, 68.4),
    "SqueezeNet": (73.3, 82.6, 78.0, 70.1, 60.1, 63.6, 62.0, 64.0, 68.6),
    "AlexNet": (70.6, 83.1, 76.8, 71.7, 60.7, 65.0, 62.7, 65.0, 68.9),
    "VGG": (70.1, 81.3, 75.7, 69.0, 59.0, 60.2, 62.1, 62.6, 67.0),
    "SqueezeNet, linear": (76.1, 83.5, 79.8, 71.1, 60.8, 65.3, 63.2, 65.1, 70.0),
    "AlexNet, linear": (73.9, 83.4, 78.7, 71.5, 61.2, 65.3, 63.2, 65.3, 69.8),
    "VGG, linear": (76.0, 82.8, 79.4, 70.5, 60.5, 62.5, 63.0, 64.1, 69.2),
    "VGG, tuned": (79.3, 83.5, 81.4, 69.8, 60.5, 63.4, 62.3, 64.0, 69.8),
}  # fmt: skip
# Fractions by metric and column.
TABLE: dict[str, dict[str, float]] = {
    metric: {column: round(value / 100, 6) for column, value in zip(COLUMNS, values, strict=True)}
    for metric, values in _PER_CENT.items()
}  # fmt: skip
