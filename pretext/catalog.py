"""Every variant of every axis, one row each. Nothing heavy is imported here; a row's target is loaded when it is used."""

from __future__ import annotations

from pretext.registry import Registry, Variant

STL10_PAPER = "Coates, Lee, Ng 2011, AISTATS"
CIFAR_PAPER = "Krizhevsky 2009"
PSE_PAPER = "arXiv:2206.00506; Golmakani's slides"

SOURCES = Registry(
    "source",
    Variant(
        name="shapes", target="pretext.datasets.shapes:build_shapes", paper="drawn by this package",
        summary="ten shape classes drawn on the spot; no download",
        reads={"num_unlabeled": 8000, "num_train": 2000, "num_test": 2000, "image_size": 32},
    ),
    Variant(
        name="stl10", target="pretext.datasets.stl10:build_stl10", paper=STL10_PAPER,
        summary="96 px; 5,000 train, 8,000 test, 100,000 unlabelled images; 10 classes, 10 official folds",
        reads={"root": None, "offline": False, "image_size": 96},
    ),
    Variant(
        name="cifar10", target="pretext.datasets.cifar:build_cifar10", paper=CIFAR_PAPER,
        summary="32 px; 50,000 train and 10,000 test images; 10 classes",
        reads={"root": None, "offline": False, "image_size": 32},
    ),
    Variant(
        name="cifar100", target="pretext.datasets.cifar:build_cifar100", paper=CIFAR_PAPER,
        summary="32 px; 50,000 train and 10,000 test images; 100 classes",
        reads={"root": None, "offline": False, "image_size": 32},
    ),
    Variant(
        name="folder", target="pretext.datasets.folder:build_folder",
        summary="your own images: PATH with class sub-folders, or flat; optional unlabeled/ train/ test/ above",
        reads={"path": None, "image_size": 96},
    ),
)  # fmt: skip

# What a trained objective reads beside its loss and encoder; an objective may set its own defaults.
OBJECTIVES = Registry(
    "objective",
    Variant(
        name="autoencode", target="pretext.objectives.autoencode:build_autoencode",
        summary="encode the image to a vector, decode it, compare with the image",
        paper="Hinton, Salakhutdinov 2006, Science 313", reads={"loss": "mse"},
    ),
    Variant(
        name="random", target="pretext.objectives.random_control:build_random", trains=False,
        summary="control: the encoder as it is initialised, never trained",
    ),
)  # fmt: skip

LOSSES = Registry(
    "loss",
    Variant(name="mse", target="pretext.losses:MSELoss", summary="mean squared error"),
    Variant(name="l1", target="pretext.losses:L1Loss", summary="mean absolute error"),
    Variant(name="bce", target="pretext.losses:BCELoss", summary="binary cross-entropy on pixels in 0..1"),
    Variant(
        name="pse", target="pretext.losses:PSELoss", paper=PSE_PAPER,
        summary="proximally sensitive error: squared Gaussian-smoothed residual, on the scale of mse",
        reads={"sigma": 4.0, "truncate": 4.0, "padding": "symmetric", "residual": "abs"},
    ),
    Variant(
        name="pse-slides", target="pretext.losses:PSELoss", paper=PSE_PAPER,
        summary="pse exactly as the slides' code: kernel cut at 1 sigma, zero padding, scale 1/9",
        reads={"sigma": 3.0},
        fixed={"truncate": 1.0, "padding": "zero", "residual": "abs", "scale": "slides"},
    ),
)  # fmt: skip

ENCODERS = Registry(
    "encoder",
    Variant(
        name="cnn", target="pretext.encoders.cnn:build_cnn", paper="Golmakani's repository",
        summary="five stride-2 convolutions and a linear layer; 1.57 M parameters",
        reads={"width": 1.0, "latent_dim": 256}, tiny={"width": 0.25, "latent_dim": 16},
    ),
    Variant(
        name="resnet18", target="pretext.encoders.resnet:build_resnet18", paper="arXiv:1512.03385",
        summary="18-layer residual net and a linear layer; the slides' 3x3 stem, or torchvision's 7x7",
        reads={"width": 1.0, "latent_dim": 1024, "stem": "3x3"}, tiny={"width": 0.125, "latent_dim": 16},
    ),
)  # fmt: skip

PROBES = Registry(
    "kind",
    Variant(
        name="linear", target="pretext.tasks.probes:judge_linear",
        summary="multinomial logistic regression on standardised features; strength chosen on inner folds",
        reads={"strengths": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    ),
    Variant(
        name="knn", target="pretext.tasks.probes:judge_knn", paper="arXiv:1805.01978",
        summary="weighted nearest neighbours: cosine similarity, temperature 0.07, k chosen on inner folds",
        reads={"neighbours": (10, 20, 100, 200)},
    ),
    Variant(
        name="mlp", target="pretext.tasks.probes:judge_mlp", paper="Golmakani's slides",
        summary="the slides' classifier on standardised features: three linear layers with sigmoids and dropout",
        reads={"epochs": 500, "lr": 1e-3, "patience": 50},
    ),
)  # fmt: skip

PROTOCOLS = Registry(
    "protocol",
    Variant(
        name="full", target="pretext.tasks.protocols:FULL",
        summary="all weights trained",
        reads={"augment": "strong", "head": "linear"},
    ),
    Variant(
        name="frozen", target="pretext.tasks.protocols:FROZEN",
        summary="encoder fixed, batch norm in eval mode, head trained on standardised features",
        reads={"augment": "none", "head": "linear"},
    ),
    Variant(
        name="scratch", target="pretext.tasks.protocols:SCRATCH",
        summary="supervised control: as `full`, but from new weights",
        reads={"augment": "strong", "head": "linear"},
    ),
    Variant(
        name="as-coded-ft", target="pretext.tasks.protocols:AS_CODED_FT", paper="Golmakani's repository",
        summary="the slides' \"fine-tuning\": weights never move, batch norm in train mode adapts, fresh augmentation",
        reads={"augment": "strong", "head": "slides"},
    ),
    Variant(
        name="as-coded-frozen", target="pretext.tasks.protocols:AS_CODED_FROZEN", paper="Golmakani's repository",
        summary="the slides' \"freeze\": features once, each image normalised by its own statistics, one augmented copy",
        reads={"augment": "strong", "head": "slides"},
    ),
)  # fmt: skip

AXES: dict[str, Registry] = {
    "sources": SOURCES, "objectives": OBJECTIVES, "losses": LOSSES,
    "encoders": ENCODERS, "probes": PROBES, "protocols": PROTOCOLS,
}  # fmt: skip
