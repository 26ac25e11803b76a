"""The options of every stage: names, defaults, ranges, help. Light enough for `--help` to read.

Options whose default is None because a catalogue row decides it show that row's value in `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pretext.catalog import (
    COLOR_SPACES,
    DEFAULT_TARGET_SIZE,
    ENCODERS,
    LOSSES,
    METRICS,
    OBJECTIVES,
    PROBES,
    PROTOCOLS,
    SOURCES,
)
from pretext.config import option

MACHINE, OUTPUT, DATA, COLOR = "Machine", "Output", "Data", "Colour"
OPTIMISATION, LOSS, ENCODER, EVALUATION = "Optimisation", "Objective and loss", "Encoder", "Evaluation"
METRIC = "Metric"
LAYOUTS = ("2afc", "jnd", "triplets", "tid2013", "kadid")
DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "fp32", "bf16")
AUGMENTATIONS = ("none", "flip", "small", "strong")
NETWORK_WEIGHTS, NORMALIZATIONS = ("imagenet", "random"), ("imagenet", "none")
BENCH_PARTS = ("data", "color", "loss", "train", "features", "probe")
ADDED_LOSSES = ("mse", "l1", "bce", "pse")
TORCH_SEED_LIMIT = 2**31 - 1


def _overwrite() -> bool:
    return option(False, "Replace an output that was made with other arguments.", panel=OUTPUT, identity=False)


def _dry_run() -> bool:
    return option(False, "Print what would be read and written, and the expected cost; write nothing.",
                  panel=OUTPUT, identity=False)  # fmt: skip


def _device() -> str:
    return option("auto", "Where to compute; auto takes CUDA where there is one.", panel=MACHINE,
                  choices=DEVICES, identity=False)  # fmt: skip


def _precision(default: str = "auto") -> str:
    return option(default, "Arithmetic of the network; auto is bf16 where the hardware has it.", panel=MACHINE,
                  choices=PRECISIONS)  # fmt: skip


def _seed(help: str) -> int:
    return option(0, help, panel=OPTIMISATION, minimum=0, maximum=TORCH_SEED_LIMIT)


def _data_dir() -> Path:
    return option(Path("data"), "The folder of prepared data sets.", panel=DATA, identity=False)


def _weights_dir() -> Path:
    return option(Path("weights"), "The folder of published weights; absent files are downloaded there.", panel=MACHINE,
                  identity=False)  # fmt: skip


def _offline() -> bool:
    return option(False, "Download nothing; name what is missing.", panel=MACHINE, identity=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareDataConfig:
    """Turn a source's own files into Arrow shards."""

    source: str = option("shapes", "What to prepare.", panel=DATA, choices=tuple(SOURCES), positional=True)
    path: Path | None = option(None, "The folder of images, for source `folder`.", panel=DATA, positional=True)
    root: Path | None = option(None, "The folder that holds stl10_binary/, cifar-10-batches-bin/ or cifar-100-binary/; "
                               "absent files are downloaded there. [default: downloads]", panel=DATA, identity=False)  # fmt: skip
    name: str | None = option(None, "Name of the prepared data set. [default: the source's, or the folder's]",
                              panel=OUTPUT, identity=False)  # fmt: skip
    image_size: int | None = option(None, "Side of the square images, px.", panel=DATA, minimum=8, maximum=4096)
    limit: int | None = option(None, "Take this many images of each split, chosen by seed.", panel=DATA, minimum=1)
    num_unlabeled: int | None = option(None, "Unlabelled images to draw.", panel=DATA, minimum=0)
    num_train: int | None = option(None, "Labelled training images to draw.", panel=DATA, minimum=0)
    num_test: int | None = option(None, "Test images to draw.", panel=DATA, minimum=0)
    max_rejected: float = option(0.01, "Largest share of unreadable images that is not an error.", panel=DATA,
                                 minimum=0, maximum=1, identity=False)  # fmt: skip
    seed: int = option(0, "Seed of what is drawn or chosen.", panel=DATA, minimum=0, maximum=TORCH_SEED_LIMIT)
    color_space: tuple[str, ...] = option(("none",), "Colour targets to prepare, separated by commas; more can be added "
                                          "later.", panel=COLOR, choices=("none", *COLOR_SPACES), identity=False)  # fmt: skip
    target_size: int = option(
        DEFAULT_TARGET_SIZE, "Side of the colour targets.", panel=COLOR, minimum=1, maximum=4096, identity=False
    )
    target_border: str = option("reflect", "What lies outside an image when it is made small; zero is the student project's.",
                                panel=COLOR, choices=("reflect", "zero"), identity=False)  # fmt: skip
    lab_dtype: str = option("uint8", "How the Lab image is stored.", panel=COLOR, choices=("uint8", "float16"),
                            identity=False)  # fmt: skip
    offline: bool | None = option(None, "Download nothing; name what is missing.", panel=MACHINE, identity=False)
    workers: int = option(0, "Processes; 0 takes every core.", panel=MACHINE, minimum=0, identity=False)
    shard_mb: float = option(256.0, "Size of one shard, MB.", panel=OUTPUT, above=0)
    data_dir: Path = option(Path("data"), "The folder of prepared data sets.", panel=OUTPUT, identity=False)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Train an encoder on unlabelled images."""

    data: str | None = option(None, "Prepared data set, by name or folder. [default: the only one there is]",
                              panel=DATA)  # fmt: skip
    data_dir: Path = _data_dir()
    split: str = option("auto", "Images to learn from; auto is unlabeled where there is one, else train.", panel=DATA,
                        choices=("auto", "unlabeled", "train", "train+unlabeled"))  # fmt: skip
    val_fraction: float = option(0.15, "Share of the images kept back for validation.", panel=DATA, minimum=0,
                                 maximum=0.9)  # fmt: skip
    objective: str = option("autoencode", "What is hidden and what is predicted.", panel=LOSS,
                            choices=tuple(OBJECTIVES))  # fmt: skip
    loss: str | None = option(None, "How the prediction is compared.", panel=LOSS, choices=tuple(LOSSES))
    sigma: float | None = option(None, "Width of the Gaussian, px.", panel=LOSS, minimum=0, maximum=1000)
    truncate: float | None = option(None, "Where the Gaussian is cut, in sigmas.", panel=LOSS, above=0, maximum=100)
    padding: str | None = option(None, "The residual outside the image.", panel=LOSS,
                                 choices=("zero", "symmetric", "replicate"))  # fmt: skip
    residual: str | None = option(None, "Smooth the absolute or the signed residual.", panel=LOSS,
                                  choices=("abs", "signed"))  # fmt: skip
    rebalance: float | None = option(None, "Weight of rare bins: 1 counts all places alike, 0 all bins alike.",
                                     panel=LOSS, minimum=0, maximum=1)  # fmt: skip
    loss_network: str | None = option(None, "Network whose features are compared: one of `pretext list networks`, or a run.",
                                      panel=LOSS)  # fmt: skip
    loss_network_weights: str | None = option(None, "Its weights; random is the control.", panel=LOSS,
                                              choices=NETWORK_WEIGHTS)  # fmt: skip
    layer: tuple[str, ...] | None = option(None, "Its layers, separated by commas: 1 to 4 from early to late, or their own "
                                           "names.", panel=LOSS)  # fmt: skip
    layer_weights: tuple[float, ...] | None = option(
        None, "Weight of each layer. [default: 1 each]", panel=LOSS, minimum=0
    )
    normalize: str | None = option(None, "What is done to images before the loss network; none is the published "
                                   "autoencoders'.", panel=LOSS, choices=NORMALIZATIONS)  # fmt: skip
    channel_weights: str | None = option(None, "Weights of its channels: unit, published, or a run of fit-metric.",
                                         panel=LOSS)  # fmt: skip
    quality: str | None = option(None, "No-reference quality network: MODULE:NAME of a function that returns one, or a "
                                 "name that pyiqa knows.", panel=LOSS)  # fmt: skip
    quality_weight: float | None = option(None, "Weight of the quality.", panel=LOSS, minimum=0)
    pixel_loss: str | None = option(None, "Loss on pixels that is added.", panel=LOSS, choices=ADDED_LOSSES)
    pixel_weight: float | None = option(None, "Its weight.", panel=LOSS, minimum=0)
    features: Path | None = option(None, "Run of extract-features, at --layer: what is predicted, or what a loss compares with.",
                                   panel=LOSS)  # fmt: skip
    color_space: str | None = option(None, "Which channels are predicted from which, and their bins. "
                                     "[default: the prepared one]", panel=LOSS, choices=tuple(COLOR_SPACES))  # fmt: skip
    target_size: int | None = option(None, "Side of the colour targets. [default: the prepared one]", panel=LOSS,
                                     minimum=1, maximum=4096)  # fmt: skip
    noise: str | None = option(None, "What is done to the image that the encoder sees.", panel=LOSS,
                               choices=("salt-pepper", "masking", "gaussian"))  # fmt: skip
    noise_level: float | None = option(None, "Share of the values that are hit, or the noise's standard deviation.",
                                       panel=LOSS, minimum=0, maximum=1)  # fmt: skip
    encoder: str | None = option(None, "The network to train.", panel=ENCODER, choices=tuple(ENCODERS))
    width: float | None = option(None, "Multiplies the channels of every layer.", panel=ENCODER, above=0, maximum=16)
    latent_dim: int | None = option(None, "Size of the encoder's output vector.", panel=ENCODER, minimum=1,
                                    maximum=65536)  # fmt: skip
    stem: str | None = option(None, "First convolution.", panel=ENCODER, choices=("3x3", "7x7", "10x10", "11x11"))
    init_from: Path | None = option(None, "Start from the weights of this run or checkpoint.", panel=ENCODER)
    epochs: int = option(50, "Passes over the images.", panel=OPTIMISATION, minimum=1)
    batch_size: int = option(128, "Images in one step, over all processes.", panel=OPTIMISATION, minimum=2)
    accumulate: int = option(1, "Split a step's batch into this many parts, to save memory.", panel=OPTIMISATION,
                             minimum=1)  # fmt: skip
    optimizer: str = option("adam", "Update rule.", panel=OPTIMISATION, choices=("adam", "adamw"))
    lr: float = option(1e-3, "Learning rate.", panel=OPTIMISATION, above=0)
    weight_decay: float = option(0.0, "Decay of the weights.", panel=OPTIMISATION, minimum=0)
    schedule: str = option("cosine", "Learning rate over time.", panel=OPTIMISATION,
                           choices=("cosine", "constant", "plateau", "step"))  # fmt: skip
    gamma: float = option(0.5, "Factor on the learning rate after every epoch.", panel=OPTIMISATION, above=0, maximum=1,
                          only_with=("schedule", "step"))  # fmt: skip
    warmup_epochs: float = option(1.0, "Epochs of linear warm-up.", panel=OPTIMISATION, minimum=0)
    grad_clip: float = option(1.0, "Largest norm of the gradient; 0 clips nothing.", panel=OPTIMISATION, minimum=0)
    patience: int = option(0, "Stop after this many epochs without a better validation loss; 0 never stops.",
                           panel=OPTIMISATION, minimum=0)  # fmt: skip
    on_nan: str = option("stop", "When a loss or gradient is no number: stop and keep the step, skip it, or rewind to the last "
                         "saved state and take other batches.", panel=OPTIMISATION,
                         choices=("stop", "skip", "rewind"), identity=False)  # fmt: skip
    augment: str | None = option(
        None, "Augmentation of the training images.", panel=OPTIMISATION, choices=AUGMENTATIONS
    )
    seed: int = _seed("Seed of weights, order, augmentation and validation split.")
    weights_dir: Path = _weights_dir()
    offline: bool = _offline()
    device: str = _device()
    precision: str = _precision()
    runs_dir: Path = option(Path("runs"), "The folder of runs.", panel=OUTPUT, identity=False)
    out: Path | None = option(None, "Folder of this run. [default: RUNS_DIR/DATA-ENCODER-LOSS-sSEED]", panel=OUTPUT,
                              identity=False)  # fmt: skip
    keep: str = option("best", "Which weights checkpoint.safetensors holds; the last are always kept beside.",
                       panel=OUTPUT, choices=("best", "last"))  # fmt: skip
    save_every: float = option(60.0, "Seconds between saved states.", panel=OUTPUT, minimum=0, identity=False)
    log_every: int = option(50, "Steps between rows of metrics.parquet.", panel=OUTPUT, minimum=1)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractFeaturesConfig:
    """Run a trained encoder over every split and store the features."""

    run: Path | None = option(None, "The run whose checkpoint is used.", panel=DATA, positional=True)
    data: str | None = option(None, "Prepared data set. [default: the one the run was trained on]", panel=DATA)
    data_dir: Path = _data_dir()
    splits: tuple[str, ...] = option(("all",), "Splits to extract, separated by commas.", panel=DATA)
    raw_pixels: bool = option(False, "Control: the pixels themselves, without a run.", panel=ENCODER)
    network: str | None = option(None, "Instead of a run: one of `pretext list networks`.", panel=ENCODER)
    network_weights: str = option("imagenet", "Its weights; random is the control.", panel=ENCODER,
                                  choices=NETWORK_WEIGHTS, only_with=("network", "given"))  # fmt: skip
    normalize: str = option("imagenet", "What is done to images before it; none is the published autoencoders'.",
                            panel=ENCODER, choices=NORMALIZATIONS, only_with=("network", "given"))  # fmt: skip
    seed: int = option(0, "Seed of its random weights.", panel=ENCODER, minimum=0, maximum=TORCH_SEED_LIMIT,
                       only_with=("network", "given"))  # fmt: skip
    weights_dir: Path = _weights_dir()
    offline: bool = _offline()
    pixel_size: int = option(32, "Side to which raw pixels are averaged, px; 0 keeps the image's own.", panel=ENCODER,
                             minimum=0, maximum=4096, only_with=("raw_pixels", True))  # fmt: skip
    layer: str = option(
        "latent", "The layer whose output is stored; of --network 1 to 4, or its own name.", panel=ENCODER
    )
    pool: str = option("flatten", "What becomes of a feature map: all of it, its mean, or it resized to about "
                       "--max-features numbers.", panel=ENCODER, choices=("flatten", "avg", "resize"),
                       only_with=("raw_pixels", False))  # fmt: skip
    max_features: int = option(9600, "Numbers that a resized map keeps at most.", panel=ENCODER, minimum=1,
                               only_with=("pool", "resize"))  # fmt: skip
    batch_size: int = option(256, "Images in one forward pass.", panel=MACHINE, minimum=1, identity=False)
    device: str = _device()
    precision: str = _precision("fp32")
    runs_dir: Path = option(Path("runs"), "The folder of runs, for what has no run of its own.", panel=OUTPUT,
                            identity=False)  # fmt: skip
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """Which labelled images classifiers are fitted on: the same for every stage that scores an encoder."""

    folds: str = option("kfold", "Training sets: k parts of the train split, or the data set's official folds.",
                        panel=EVALUATION, choices=("kfold", "official"))  # fmt: skip
    k: int = option(5, "Number of folds of `--folds kfold`.", panel=EVALUATION, minimum=2, maximum=100,
                   only_with=("folds", "kfold"))  # fmt: skip
    fold_seed: int = option(12345, "Seed of the folds.", panel=EVALUATION, minimum=0, maximum=TORCH_SEED_LIMIT,
                           only_with=("folds", "kfold"))  # fmt: skip
    labels_per_class: tuple[int, ...] | None = option(
        None, "Few-label curve: numbers of labels per class, such as 1,2,4,8.", panel=EVALUATION, minimum=1,
    )  # fmt: skip
    draws: int = option(3, "Draws of each few-label set.", panel=EVALUATION, minimum=1, maximum=1000,
                       only_with=("labels_per_class", "given"))  # fmt: skip
    unstratified: bool = option(False, "Draw few-label sets without regard to class, as the student project did.",
                                panel=EVALUATION, only_with=("labels_per_class", "given"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig(LabelOptions):
    """Score frozen features."""

    run: Path = option(None, "The run whose features are scored.", panel=DATA, positional=True, required=True)
    layer: str = option("latent", "The layer whose features are scored.", panel=EVALUATION)
    kind: str = option("linear", "The classifier.", panel=EVALUATION, choices=tuple(PROBES))
    strengths: tuple[float, ...] | None = option(None, "Inverse regularisation strengths to choose from (scikit-learn's C).",
                                                 panel=EVALUATION, above=0)  # fmt: skip
    neighbours: tuple[int, ...] | None = option(None, "Numbers of neighbours to choose from.", panel=EVALUATION,
                                                minimum=1)  # fmt: skip
    epochs: int | None = option(None, "Most epochs of the head.", panel=OPTIMISATION, minimum=1)
    lr: float | None = option(None, "Learning rate of the head.", panel=OPTIMISATION, above=0)
    patience: int | None = option(None, "Epochs without a better held-out loss before the head stops.",
                                  panel=OPTIMISATION, minimum=1)  # fmt: skip
    seed: int = option(0, "Seed of draws, heads and bootstrap.", panel=EVALUATION, minimum=0, maximum=TORCH_SEED_LIMIT)
    device: str = _device()
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig(LabelOptions):
    """Train a classifier on top of, or through, the encoder."""

    run: Path = option(None, "The run whose encoder is used.", panel=DATA, positional=True, required=True)
    data: str | None = option(None, "Prepared data set. [default: the one the run was trained on]", panel=DATA)
    data_dir: Path = _data_dir()
    protocol: str = option("full", "What is trained, and how.", panel=EVALUATION, choices=tuple(PROTOCOLS))
    head: str | None = option(None, "The classifier on the encoder.", panel=EVALUATION, choices=("linear", "slides"))
    augment: str | None = option(None, "Augmentation.", panel=OPTIMISATION, choices=AUGMENTATIONS)
    epochs: int = option(100, "Most passes over a fold's training images.", panel=OPTIMISATION, minimum=1)
    batch_size: int = option(128, "Images in one step.", panel=OPTIMISATION, minimum=2)
    lr: float = option(1e-3, "Learning rate.", panel=OPTIMISATION, above=0)
    weight_decay: float = option(0.0, "Decay of the weights.", panel=OPTIMISATION, minimum=0)
    schedule: str = option("plateau", "Learning rate over time.", panel=OPTIMISATION,
                           choices=("cosine", "constant", "plateau"))  # fmt: skip
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up.", panel=OPTIMISATION, minimum=0)
    grad_clip: float = option(0.5, "Largest norm of the gradient; 0 clips nothing.", panel=OPTIMISATION, minimum=0)
    patience: int = option(50, "Stop after this many epochs without a better held-out loss; 0 never stops.",
                           panel=OPTIMISATION, minimum=0)  # fmt: skip
    seed: int = _seed("Seed of the head's weights, order, augmentation and dropout.")
    device: str = _device()
    precision: str = _precision()
    save_every: float = option(60.0, "Seconds between saved states.", panel=OUTPUT, minimum=0, identity=False)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgmentOptions:
    """Which human judgments a metric is fitted to or scored on: the same for both stages."""

    judgments: Path = option(None, "Folder of images and of what people said of them.", panel=DATA, positional=True,
                             required=True)  # fmt: skip
    layout: str = option("auto", "How the folder is laid out; auto looks.", panel=DATA, choices=("auto", *LAYOUTS))
    image_size: int | None = option(None, "Side to which images are brought, px. [default: their own]", panel=DATA,
                                    minimum=16, maximum=4096)  # fmt: skip
    network: str | None = option(None, "Network whose features are compared: one of `pretext list networks`, or a run.",
                                 panel=METRIC)  # fmt: skip
    network_weights: str | None = option(
        None, "Its weights; random is the control.", panel=METRIC, choices=NETWORK_WEIGHTS
    )
    layer: tuple[str, ...] | None = option(None, "Its layers, separated by commas: 1 to 4 from early to late, or their own "
                                           "names.", panel=METRIC)  # fmt: skip
    normalize: str | None = option(None, "What is done to images before the network.", panel=METRIC,
                                   choices=NORMALIZATIONS)  # fmt: skip
    seed: int = option(0, "Seed of random weights, inner folds and bootstrap.", panel=METRIC, minimum=0,
                       maximum=TORCH_SEED_LIMIT)  # fmt: skip
    weights_dir: Path = _weights_dir()
    offline: bool = _offline()
    batch_size: int = option(64, "Images in one forward pass.", panel=MACHINE, minimum=1, identity=False)
    device: str = _device()
    runs_dir: Path = option(Path("runs"), "The folder of runs.", panel=OUTPUT, identity=False)
    out: Path | None = option(
        None, "Folder to write. [default: RUNS_DIR/JUDGMENTS-METRIC]", panel=OUTPUT, identity=False
    )
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitMetricConfig(JudgmentOptions):
    """Fit weights of a network's channels to human judgments."""

    split: str = option("train", "Judgments to fit to.", panel=DATA)
    strengths: tuple[float, ...] = option((1e-4, 1e-3, 1e-2, 1e-1), "Penalties of the weights' squares to choose from, on "
                                          "inner folds.", panel=METRIC, minimum=0)  # fmt: skip
    k: int = option(5, "Inner folds.", panel=METRIC, minimum=2, maximum=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMetricConfig(JudgmentOptions):
    """Score a metric against human judgments."""

    split: str = option("test", "Judgments to score on.", panel=DATA)
    metric: str = option("lpips", "What measures how unlike two images are.", panel=METRIC, choices=tuple(METRICS))
    sigma: float | None = option(None, "Width of the Gaussian, px.", panel=METRIC, minimum=0, maximum=1000)
    layer_weights: tuple[float, ...] | None = option(None, "Weight of each layer. [default: 1 each]", panel=METRIC,
                                                     minimum=0)  # fmt: skip
    channel_weights: str | None = option(None, "Weights of its channels: unit, published, or a run of fit-metric.",
                                         panel=METRIC)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Compare any number of runs."""

    runs: tuple[Path, ...] = option(None, "Runs, or folders of runs.", panel=DATA, positional=True, required=True)
    title: str = option("Which pretext task gives the best encoder?", "Headline of the report.", panel=OUTPUT)
    out: Path = option(Path("report"), "Folder to write.", panel=OUTPUT, identity=False)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Write a run's encoder for use elsewhere."""

    run: Path = option(None, "The run whose encoder is exported.", panel=DATA, positional=True, required=True)
    format: str = option("auto", "auto is a state dict where the shape is torchvision's, else a torch.export program.",
                         panel=OUTPUT, choices=("auto", "state-dict", "torch-export"))  # fmt: skip
    out: Path | None = option(None, "File to write. [default: RUN/encoder-FORMAT.*]", panel=OUTPUT, identity=False)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """Measure how fast this machine does each part of the work, against the plain way and the hardware's ceiling."""

    parts: tuple[str, ...] = option(("all",), "What to measure.", panel=EVALUATION, choices=("all", *BENCH_PARTS),
                                    positional=True)  # fmt: skip
    device: str = _device()
    out: Path | None = option(None, "File to write the numbers to, as JSON.", panel=OUTPUT, identity=False)
    overwrite: bool = _overwrite()
    dry_run: bool = _dry_run()
