"""Every variant of every axis, one row each. Nothing heavy is imported here; a row's target is loaded when it is used."""

from __future__ import annotations

from typing import Any

from pretext.registry import Registry, Variant

STL10_PAPER = "Coates, Lee, Ng 2011, AISTATS"
CIFAR_PAPER = "Krizhevsky 2009"
LOSS_NETWORKS_PAPER = "arXiv:2302.04032"
LPIPS_PAPER = "arXiv:1801.03924"
PSE_PAPER = "arXiv:2206.00506; Golmakani's slides"
SPLIT_BRAIN_PAPER = "arXiv:1611.09842"
STUDENT_PROJECT = "Budhkar et al., LeProject"

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

# The channels of an image in two groups, and how each group is cut into classes.
COLOR_SPACES = Registry(
    "color-space",
    Variant(
        name="rgb", target="pretext.color.spaces:build_rgb", paper=STUDENT_PROJECT,
        summary="R | GB; 100 bins of R, 10 x 10 of G and B",
    ),
    Variant(
        name="lab", target="pretext.color.spaces:build_lab", paper=STUDENT_PROJECT,
        summary="L | ab; 100 bins of L, 10 x 10 of a and b",
    ),
    Variant(
        name="lab-rescaled", target="pretext.color.spaces:build_lab_rescaled", paper=STUDENT_PROJECT,
        summary="as lab, but the bins of a and b span each image's own range",
    ),
    Variant(
        name="lab-rescaled-all", target="pretext.color.spaces:build_lab_rescaled_all",
        summary="as lab-rescaled, and the bins of L too",
    ),
    Variant(
        name="lab-313", target="pretext.color.spaces:build_lab_313", paper=f"{SPLIT_BRAIN_PAPER}; arXiv:1603.08511",
        summary="L | ab; 50 bins of L, the 313 published points of a and b",
    ),
    Variant(
        name="lab-gamut", target="pretext.color.spaces:build_lab_gamut",
        summary="L | ab; 50 bins of L, the 261 points of the grid of 10 that sRGB colours are nearest to",
    ),
)  # fmt: skip

LAB_SPACES = tuple(name for name in COLOR_SPACES if name != "rgb")
DEFAULT_TARGET_SIZE = 12  # px, as in both papers
PIXEL_LOSSES = ("mse", "l1", "bce", "pse", "pse-slides")
NETWORK_LOSSES = ("perceptual", "lpips", "no-reference")
IMAGE_LOSSES = (*PIXEL_LOSSES, *NETWORK_LOSSES)
# Encoders that can be cut into sub-networks by the channels they see.
SPLIT_ENCODERS = ("simplenet5", "simplenet13", "alexnet-fcn", "resnet18-fcn")
# Targets are prepared before training; of all augmentations only a flip can be done to them as well.
_CHANNELS: dict[str, Any] = {
    "target": "pretext.objectives.split_brain:build_split_brain", "paper": SPLIT_BRAIN_PAPER,
    "reads": {"loss": "cross-entropy", "encoder": "simplenet5", "augment": "flip", "color_space": None,
              "target_size": None},
    "fits": {"loss": ("cross-entropy", "regression"), "encoder": SPLIT_ENCODERS, "augment": ("none", "flip")},
}  # fmt: skip

# What a trained objective reads beside its loss and encoder; an objective may set its own defaults.
OBJECTIVES = Registry(
    "objective",
    Variant(
        name="autoencode", target="pretext.objectives.autoencode:build_autoencode",
        summary="encode the image to a vector, decode it, compare with the image",
        paper="Hinton, Salakhutdinov 2006, Science 313",
        reads={"loss": "mse", "encoder": "cnn", "augment": "small"}, fits={"loss": IMAGE_LOSSES},
    ),
    Variant(
        name="denoise", target="pretext.objectives.denoise:build_denoise", paper="Vincent et al. 2010, JMLR 11",
        summary="as autoencode, from a noisy image to the clean one",
        reads={"loss": "bce", "encoder": "conv4", "augment": "small", "noise": "salt-pepper", "noise_level": 0.05},
        fits={"loss": IMAGE_LOSSES},
    ),
    Variant(
        name="split-brain", fixed={"wiring": "split-brain"}, **_CHANNELS,
        summary="two networks, each sees some channels and predicts the others' bins",
    ),
    Variant(
        name="colorize", fixed={"wiring": "colorize"}, **_CHANNELS,
        summary="one direction of split-brain: colour from light (GB from R in rgb)",
    ),
    Variant(
        name="predict-light", fixed={"wiring": "predict-light"}, **_CHANNELS,
        summary="the other direction of split-brain: light from colour (R from GB in rgb)",
    ),
    Variant(
        name="cross-channel", fixed={"wiring": "cross-channel"}, **_CHANNELS,
        summary="ablation of split-brain: one network for both directions, the unseen channels blanked",
    ),
    Variant(
        name="two-colorizers", fixed={"wiring": "two-colorizers"}, **_CHANNELS,
        summary="ablation of split-brain: two networks that both predict colour from light",
    ),
    Variant(
        name="predict-features", target="pretext.objectives.predict_features:build_predict_features",
        paper="arXiv:2003.07441",
        summary="encode the image, predict another network's features of it, extracted once; no image is decoded",
        reads={"loss": "mse", "encoder": "conv-k4", "augment": "none", "features": None, "layer": ("4",)},
        fits={"loss": ("mse", "l1"), "augment": ("none",)},
    ),
    Variant(
        name="random", target="pretext.objectives.random_control:build_random", trains=False,
        summary="control: the encoder as it is initialised; with --color-space of split-brain's shape",
        reads={"encoder": "cnn", "color_space": None},
    ),
)  # fmt: skip

# What every loss that compares a network's features reads.
_LOSS_NETWORK: dict[str, Any] = {"loss_network": "vgg16", "loss_network_weights": "imagenet", "normalize": "imagenet",
                                 "pixel_loss": None, "pixel_weight": 1.0}  # fmt: skip
_TINY_NETWORK: dict[str, Any] = {"loss_network": "squeezenet1_1", "loss_network_weights": "random", "layer": ("1",)}

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
    Variant(
        name="perceptual", target="pretext.perceptual.losses:build_perceptual", paper=LOSS_NETWORKS_PAPER,
        summary="mean squared difference of a frozen network's features, at one or more of its layers",
        reads={**_LOSS_NETWORK, "layer": ("2",), "layer_weights": None, "features": None},
        tiny=_TINY_NETWORK,
    ),
    Variant(
        name="lpips", target="pretext.perceptual.losses:build_lpips", paper=LPIPS_PAPER,
        summary="squared difference of features of unit length, each channel weighted, summed over layers",
        reads={**_LOSS_NETWORK, "layer": None, "channel_weights": "published"},
        tiny={**_TINY_NETWORK, "channel_weights": "unit"},
    ),
    Variant(
        name="no-reference", target="pretext.perceptual.losses:build_no_reference", paper="arXiv:2405.20392",
        summary="a no-reference quality network of yours, anchored by lpips, since alone it is exploited",
        reads={**_LOSS_NETWORK, "layer": None, "channel_weights": "published", "quality": None, "quality_weight": 0.1},
        tiny={**_TINY_NETWORK, "channel_weights": "unit", "quality": "darkness:Darkness"},
    ),
    Variant(
        name="cross-entropy", target="pretext.losses:BinCrossEntropy", paper=SPLIT_BRAIN_PAPER,
        summary="cross-entropy of colour bins, place by place; --rebalance below 1 lifts rare bins",
        reads={"rebalance": 1.0},
    ),
    Variant(
        name="regression", target="pretext.losses:HalfSquaredError", paper=SPLIT_BRAIN_PAPER,
        summary="half the squared distance of colours, place by place",
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
    Variant(
        name="conv-k4", target="pretext.encoders.conv_k4:build_conv_k4", paper=LOSS_NETWORKS_PAPER,
        summary="four 4x4 convolutions of stride 2 without padding, batch norm, a linear layer to 64",
        reads={"width": 1.0, "latent_dim": 64}, tiny={"width": 0.25, "latent_dim": 16},
    ),
    Variant(
        name="conv4", target="pretext.encoders.conv4:build_conv4", paper=STUDENT_PROJECT,
        summary="four 4x4 convolutions of stride 2 without batch norm, 12 to 96 channels; the flattened map",
        reads={"width": 1.0}, tiny={"width": 0.5},
    ),
    Variant(
        name="simplenet5", target="pretext.encoders.fcn:build_simplenet5", paper=STUDENT_PROJECT,
        summary="five convolutions, 12 to 96 channels; 0.8 M parameters as a split-brain",
        reads={"width": 1.0}, tiny={"width": 0.5},
    ),
    Variant(
        name="simplenet13", target="pretext.encoders.fcn:build_simplenet13", paper="arXiv:1608.06037",
        summary="SimpleNet's thirteen convolutions, with three of its poolings",
        reads={"width": 1.0}, tiny={"width": 0.125},
    ),
    Variant(
        name="alexnet-fcn", target="pretext.encoders.fcn:build_alexnet_fcn",
        paper=f"{SPLIT_BRAIN_PAPER}; {STUDENT_PROJECT}",
        summary="AlexNet without its flattening; stem 10x10 for 96 px, 11x11 of stride 4 as in the paper",
        reads={"width": 1.0, "stem": "10x10"}, tiny={"width": 0.03125},
    ),
    Variant(
        name="resnet18-fcn", target="pretext.encoders.fcn:build_resnet18_fcn", paper=STUDENT_PROJECT,
        summary="residual blocks on one grid of a quarter of the side; 6.6 M parameters as a split-brain",
        reads={"width": 1.0}, tiny={"width": 0.125},
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
    Variant(
        name="mlp-seven", target="pretext.tasks.probes:judge_mlp_seven", paper=LOSS_NETWORKS_PAPER,
        summary="seven perceptrons fitted to one-hot labels by squared error, the best on held-out images; all are told",
        reads={"epochs": 500, "lr": 1e-3, "patience": 25},
    ),
)  # fmt: skip


def _network(name: str, *nodes: str, paper: str = LOSS_NETWORKS_PAPER) -> Variant:
    """A torchvision network whose layers 1 to 4 are the outputs of these nodes."""
    return Variant(name=name, target="pretext.perceptual.networks:build_torchvision", paper=paper,
                   summary=f"layers {', '.join(nodes)}", fixed={"name": name, "nodes": nodes})  # fmt: skip


NETWORKS = Registry(
    "network",
    _network("alexnet", "features.1", "features.4", "features.7", "features.11"),
    _network("vgg11", "features.1", "features.4", "features.9", "features.19"),
    _network("vgg16", "features.3", "features.8", "features.15", "features.29"),
    _network("vgg16_bn", "features.5", "features.12", "features.22", "features.42"),
    _network("vgg19", "features.3", "features.8", "features.17", "features.35"),
    _network("densenet121", "features.relu0", "features.denseblock1", "features.denseblock2", "features.denseblock4"),
    _network("resnet18", "relu", "layer1", "layer2", "layer4"),
    _network("resnet50", "relu", "layer1", "layer2", "layer4"),
    _network("resnext50_32x4d", "relu", "layer1", "layer2", "layer4"),
    _network("googlenet", "conv1", "inception3a", "inception4a", "inception5b"),
    _network("inception_v3", "Conv2d_2b_3x3", "Mixed_5b", "Mixed_5d", "Mixed_6e"),
    _network("squeezenet1_0", "features.1", "features.3", "features.7", "features.12", paper=""),
    _network("squeezenet1_1", "features.1", "features.3", "features.7", "features.12"),
    _network("efficientnet_b0", "features.0", "features.1", "features.4", "features.7"),
    _network("efficientnet_b7", "features.0", "features.1", "features.4", "features.7"),
)

# What measures how unlike two images are, for scoring against people's judgments.
_FEATURES: dict[str, Any] = {"network": "vgg16", "network_weights": "imagenet", "normalize": "imagenet"}
METRICS = Registry(
    "metric",
    Variant(name="mse", target="pretext.perceptual.metrics:build_mse", summary="mean squared difference of pixels"),
    Variant(name="l1", target="pretext.perceptual.metrics:build_l1", summary="mean absolute difference of pixels"),
    Variant(
        name="pse", target="pretext.perceptual.metrics:build_pse", paper=PSE_PAPER,
        summary="proximally sensitive error: squared Gaussian-smoothed residual",
        reads={"sigma": 4.0},
    ),
    Variant(
        name="ssim", target="pretext.perceptual.metrics:build_ssim", paper="Wang et al. 2004, IEEE TIP 13(4)",
        summary="1 - structural similarity",
    ),
    Variant(
        name="ms-ssim", target="pretext.perceptual.metrics:build_ms_ssim",
        paper="Wang, Simoncelli, Bovik 2003, Asilomar", summary="1 - structural similarity over five scales",
    ),
    Variant(
        name="perceptual", target="pretext.perceptual.metrics:build_perceptual", paper=LOSS_NETWORKS_PAPER,
        summary="mean squared difference of a network's features",
        reads={**_FEATURES, "layer": ("2",), "layer_weights": None},
    ),
    Variant(
        name="lpips", target="pretext.perceptual.metrics:build_lpips", paper=LPIPS_PAPER,
        summary="squared difference of features of unit length, each channel weighted, summed over layers",
        reads={**_FEATURES, "layer": None, "channel_weights": "published"},
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
    Variant(
        name="student", target="pretext.tasks.protocols:STUDENT", paper=STUDENT_PROJECT,
        summary="the student project's: logits of both halves into one linear layer, all weights trained",
        reads={"augment": "none", "head": "linear"},
    ),
    Variant(
        name="student-dae", target="pretext.tasks.protocols:STUDENT_DAE", paper=STUDENT_PROJECT,
        summary="the student project's for denoising nets: the whole code, weights trained, batch norm in eval mode",
        reads={"augment": "none", "head": "linear"},
    ),
)  # fmt: skip

AXES: dict[str, Registry] = {
    "sources": SOURCES, "color-spaces": COLOR_SPACES, "objectives": OBJECTIVES, "losses": LOSSES,
    "encoders": ENCODERS, "probes": PROBES, "protocols": PROTOCOLS, "networks": NETWORKS, "metrics": METRICS,
}  # fmt: skip
