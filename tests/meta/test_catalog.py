"""The catalogue against the code: every row can be loaded, is described, and tells the defaults its builder has."""

import dataclasses
import inspect

import pytest

from pretext.catalog import AXES, ENCODERS, LOSSES, OBJECTIVES, SPLIT_ENCODERS
from pretext.config import resolve
from pretext.objectives.color_task import WIRINGS
from pretext.objectives.job import READ_HERE
from pretext.stage_configs import FineTuneConfig, PrepareDataConfig, PretrainConfig, ProbeConfig, ScoreMetricConfig
from pretext.tasks.protocols import Protocol
from pretext.variants import CHOOSERS

NAMES = {
    "sources": ["shapes", "stl10", "cifar10", "cifar100", "folder"],
    "color-spaces": ["rgb", "lab", "lab-rescaled", "lab-rescaled-all", "lab-313", "lab-gamut"],
    "objectives": ["autoencode", "denoise", "split-brain", "colorize", "predict-light", "cross-channel",
                   "two-colorizers", "predict-features", "random"],
    "losses": ["mse", "l1", "bce", "pse", "pse-slides", "perceptual", "lpips", "no-reference", "cross-entropy", "regression"],
    "encoders": ["cnn", "resnet18", "conv-k4", "conv4", "simplenet5", "simplenet13", "alexnet-fcn", "resnet18-fcn"],
    "probes": ["linear", "knn", "mlp", "mlp-seven"],
    "protocols": ["full", "frozen", "scratch", "as-coded-ft", "as-coded-frozen", "student", "student-dae"],
    "networks": ["alexnet", "vgg11", "vgg16", "vgg16_bn", "vgg19", "densenet121", "resnet18", "resnet50",
                 "resnext50_32x4d", "googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1", "efficientnet_b0",
                 "efficientnet_b7"],
    "metrics": ["mse", "l1", "pse", "ssim", "ms-ssim", "perceptual", "lpips"],
}  # fmt: skip
STAGE = {
    "sources": PrepareDataConfig, "color-spaces": PretrainConfig, "objectives": PretrainConfig, "losses": PretrainConfig, "encoders": PretrainConfig,
    "probes": ProbeConfig, "protocols": FineTuneConfig, "networks": ScoreMetricConfig, "metrics": ScoreMetricConfig,
}  # fmt: skip
# What a stage hands to a builder beside the options that its row reads and the arguments that it fixes.
HANDED = {
    "sources": {"seed", "progress"}, "color-spaces": set(), "objectives": {"setting"}, "losses": set(),
    "encoders": {"image_size"},
    "probes": {"feature_ND", "label_N", "test_MD", "plans", "num_classes", "seed", "device", "folder"},
    "networks": {"layers", "weights", "weights_dir", "offline", "normalize", "seed", "progress"},
    "metrics": {"weights_dir", "offline", "seed", "progress"},
}  # fmt: skip
# Read by the stage itself, which hands on what it makes of it.
STAGE_READS = {"objectives": set(READ_HERE), "losses": {"features"}}
ROWS = [(axis, row) for axis, table in AXES.items() for row in table.values()]
each_row = pytest.mark.parametrize(("axis", "row"), ROWS, ids=[f"{axis}-{row.name}" for axis, row in ROWS])
built = pytest.mark.parametrize(
    ("axis", "row"), [pair for pair in ROWS if pair[0] != "protocols"],
    ids=[f"{axis}-{row.name}" for axis, row in ROWS if axis != "protocols"],
)  # fmt: skip


def test_the_rows_of_every_axis_are_these():
    assert {axis: list(table) for axis, table in AXES.items()} == NAMES
    assert len(ROWS) == 71


def test_every_axis_is_chosen_by_an_option_of_its_stage():
    # a network may be a run of the user's as well, so its option takes any name
    axes = {axis: table for axis, table in AXES.items() if axis != "networks"}
    assert list(CHOOSERS.values()) == list(axes.values())
    for option, (axis, table) in zip(CHOOSERS, axes.items(), strict=True):
        fields = {field.name: field for field in dataclasses.fields(STAGE[axis])}
        assert fields[option].metadata["choices"] == tuple(table)
        assert table.axis == option.replace("_", "-")
        assert fields[option].default is None or fields[option].default in table


@each_row
def test_a_row_describes_itself_in_one_line(axis, row):
    assert 10 < len(row.summary) < 120
    for text in (row.name, row.summary, row.paper):
        assert text.isprintable()
        assert text == text.strip()
    assert row.name == row.name.lower()


@each_row
def test_what_a_row_reads_is_an_option_of_its_stage_with_a_legal_default(axis, row):
    fields = {field.name: field for field in dataclasses.fields(STAGE[axis])}
    for name, default in row.reads.items():
        assert name in fields
        if default is not None and fields[name].default is not None:
            assert axis == "protocols", f"{name} has a default in the row and another in the stage"
    given = {name: value for name, value in row.reads.items() if value is not None}
    required = {field.name: "x" for field in fields.values() if field.metadata["required"]}
    config, _ = resolve(STAGE[axis], required | given)
    assert {name: getattr(config, name) for name in given} == given
    assert not set(row.reads) & set(row.fixed)


@each_row
def test_what_a_row_fits_are_legal_values_its_own_default_among_them(axis, row):
    fields = {field.name: field for field in dataclasses.fields(STAGE[axis])}
    for name, allowed in row.fits.items():
        assert set(allowed) <= set(fields[name].metadata["choices"])
        assert row.reads[name] in allowed


@each_row
def test_its_target_is_there(axis, row):
    target = row.load()
    if axis == "protocols":
        assert isinstance(target, Protocol)
    else:
        assert callable(target)


def parameters_of(row):
    """The builder's, and those of the one that it hands the rest of its keywords to."""
    parameters = dict(inspect.signature(row.load()).parameters)
    if "anchor" in parameters:
        parameters |= inspect.signature(LOSSES["lpips"].load()).parameters
    return parameters


@built
def test_its_builder_takes_all_that_it_is_handed_and_needs_no_more(axis, row):
    parameters = parameters_of(row)
    options = (set(row.reads) - STAGE_READS.get(axis, set())) | set(row.fixed)
    assert options <= set(parameters), "the builder must take what the row reads and fixes"
    needed = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    assert needed <= options | HANDED[axis]
    assert set(row.tiny) <= set(parameters)


@built
def test_a_default_in_a_row_is_the_builders_own(axis, row):
    if row.fixed:
        return  # a named preset may differ from its builder
    for name, default in row.reads.items():
        if name in STAGE_READS.get(axis, set()):
            continue
        own = parameters_of(row)[name].default
        if own not in (inspect.Parameter.empty, None):
            assert own == default, f"{name} is {default} in the catalogue, {own} in {row.target}"


def test_a_preset_differs_from_the_row_it_is_a_preset_of():
    presets = [(axis, row) for axis, row in ROWS if row.fixed and axis != "networks"]
    assert [row.name for _, row in presets] == [
        "split-brain", "colorize", "predict-light", "cross-channel", "two-colorizers", "pse-slides",
    ]  # fmt: skip
    for axis, row in presets:
        others = [other for other in AXES[axis].values() if other.target == row.target and other is not row]
        assert others
        assert all(row.reads | row.fixed != other.reads | other.fixed for other in others)


def test_every_wiring_is_a_row():
    assert [row.fixed["wiring"] for row in OBJECTIVES.values() if "wiring" in row.fixed] == list(WIRINGS)


def test_the_encoders_that_can_be_split_are_those_whose_builders_take_channels():
    takers = [name for name, row in ENCODERS.items() if "channels" in parameters_of(row)]
    assert takers == list(SPLIT_ENCODERS)
