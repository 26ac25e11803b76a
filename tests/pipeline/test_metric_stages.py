"""Metrics fitted to and scored on judgments that were made by a known rule."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_judgments import COPIES, REFERENCES, draw, draw_triplets, mse
from PIL import Image

from pretext import stage_configs as configs
from pretext.cli.listing import describe
from pretext.errors import ArtifactError, ConfigError, DataError
from pretext.perceptual import scoring
from pretext.perceptual.fitted import read_fitted
from pretext.stages import fit_metric, score_metric

SIDE = 40
RANDOM = {"network": "squeezenet1_1", "network_weights": "random"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Folders of the layouts `triplets`, `kadid` and `jnd`, in which people judge by mean squared error alone."""
    root = tmp_path_factory.mktemp("judged")
    drawn = draw_triplets(root / "toy")
    draw(root / "rated" / "images")
    rows = [(f"r{r}-{c}.png", f"r{r}-0.png") for r in range(REFERENCES) for c in range(1, COPIES + 1)]
    lines = [f"{dist},{ref},{5 - 40 * mse(drawn[dist], drawn[ref])},0.1" for dist, ref in rows]
    (root / "rated" / "dmos.csv").write_text("\n".join(["dist_img,ref_img,dmos,var", *lines]) + "\n")
    for part in ("p0", "p1", "same"):
        (root / "alike" / "val" / "noise" / part).mkdir(parents=True)
    for number, (dist, ref) in enumerate(rows):
        folder = root / "alike" / "val" / "noise"
        Image.fromarray(drawn[ref]).save(folder / "p0" / f"{number:06}.png")
        Image.fromarray(drawn[dist]).save(folder / "p1" / f"{number:06}.png")
        np.save(folder / "same" / f"{number:06}.npy", np.array([mse(drawn[dist], drawn[ref]) < 0.005], np.float32))
    return root


def score(judged, tmp_path, folder="toy", explicit=(), **changes):
    options = {"judgments": judged / folder, "metric": "mse", "runs_dir": tmp_path, "device": "cpu", **changes}
    return score_metric.run(configs.ScoreMetricConfig(**options), explicit=explicit)


def fit(judged, tmp_path, folder="toy", **changes):
    options = {"judgments": judged / folder, "runs_dir": tmp_path, "device": "cpu", "k": 3, "strengths": (1e-3, 1e-1),
               "layer": ("1", "2"), **RANDOM, **changes}  # fmt: skip
    return fit_metric.run(configs.FitMetricConfig(**options))


def content(path, name="score.json"):
    return json.loads((path / name).read_text())


def test_the_rule_that_people_judged_by_scores_full_marks(judged, tmp_path):
    outcome = score(judged, tmp_path)
    assert (outcome["status"], outcome["two_afc"]) == ("done", 1.0)
    found = content(tmp_path / "toy-mse")
    assert found["scores"] == {"two_afc": {"value": 1.0, "ci95": [1.0, 1.0]}}
    assert found["human"] == {"ceiling": 1.0, "majority": 1.0}
    assert (found["saw"], found["metric"]) == (None, {"name": "mse", "word": "mse"})
    facts = found["judgments"]
    assert (facts["layout"], facts["kind"], facts["split"], facts["num"]) == ("triplets", "triplets", "test", 30)
    table = pq.read_table(tmp_path / "toy-mse" / "score-judgments.parquet").to_pydict()
    lines = (judged / "toy" / "test.csv").read_text().splitlines()[1:]
    assert [[table[name][row] for name in ("reference", "a", "b")] for row in range(30)] == [
        line.split(",")[:3] for line in lines
    ]
    assert set(table["agreement"]) == {1.0}
    for row in range(30):
        images = [np.asarray(Image.open(judged / "toy" / "images" / table[name][row])) for name in ("reference", "a")]
        assert table["distance_a"][row] == pytest.approx(mse(*images), rel=1e-5)


def test_ratings_and_pairs_have_scores_of_their_own(judged, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 20)
    score(judged, tmp_path, "rated", split="all")
    scores = content(tmp_path / "rated-mse-all")["scores"]
    assert {name: round(score["value"], 3) for name, score in scores.items()} == {"srcc": 1, "plcc": 1, "krcc": 1}
    score(judged, tmp_path, "alike", split="val")
    found = content(tmp_path / "alike-mse-val")
    assert found["scores"]["jnd_map"]["value"] == 1
    assert found["human"] is None


def test_a_score_is_made_once_and_an_interrupted_one_again(judged, tmp_path, monkeypatch):
    score(judged, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(score_metric, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(judged, tmp_path)
    assert content(tmp_path / "toy-mse", "score.manifest.json")["status"] == "running"
    assert score(judged, tmp_path)["status"] == "done"
    for name in ("score.json", "score-judgments.parquet"):
        assert (tmp_path / "toy-mse" / name).read_bytes() == (tmp_path / "whole" / "toy-mse" / name).read_bytes()
    made = (tmp_path / "toy-mse" / "score.json").stat().st_mtime_ns
    assert score(judged, tmp_path)["status"] == "already done"
    assert (tmp_path / "toy-mse" / "score.json").stat().st_mtime_ns == made
    with pytest.raises(ArtifactError, match=r"image_size was None, now 32"):
        score(judged, tmp_path, image_size=32)
    assert score(judged, tmp_path, image_size=32, overwrite=True)["status"] == "done"
    assert not list(tmp_path.rglob(".*.tmp"))


def test_changed_judgments_are_noticed(judged, tmp_path):
    score(judged, tmp_path, out=tmp_path / "out")
    with pytest.raises(ArtifactError, match="its judgments .* has changed since"):
        score(judged, tmp_path, split="test", out=tmp_path / "out", folder="other" if edited(judged) else "toy")


def edited(judged):
    """A copy of the triplets in which one vote more was cast."""
    import shutil

    shutil.copytree(judged / "toy", judged / "other", dirs_exist_ok=True)
    path = judged / "other" / "test.csv"
    text = path.read_text()
    path.write_text(text.replace(",3,0\n", ",4,0\n", 1))
    return text != path.read_text()


def test_fitted_weights_are_used_by_a_score_and_no_worse_than_unit_weights_where_they_were_fitted(judged, tmp_path):
    outcome = fit(judged, tmp_path)
    folder = tmp_path / "toy-fit-squeezenet1_1-random-s0-1+2"
    assert outcome["output"] == str(folder / "metric.safetensors")
    told, fitted = content(folder, "fit.json"), read_fitted(folder)
    assert fitted.layers == ("1", "2")
    assert [len(weight_C) for weight_C in fitted.weights] == [64, 128]
    assert told["weights"]["num_nonzero"] == sum(int((weight_C > 0).sum()) for weight_C in fitted.weights)
    assert sum(layer["share"] for layer in told["weights"]["layers"]) == pytest.approx(1)
    inner = dict(zip(told["inner"]["strengths"], told["inner"]["heldout_loss"], strict=True))
    assert told["chosen"] == min(inner, key=inner.get)
    assert told["fit"]["loss"] < min(inner.values()) < np.log(2)
    assert told["scores"]["fitted"]["two_afc"] >= told["scores"]["unit"]["two_afc"]
    assert told["saw"] is None

    options = {"metric": "lpips", "layer": ("1", "2"), **RANDOM}
    for name, weights, split in (("fitted", folder, "train"), ("unit", "unit", "train"), ("fitted", folder, "test")):
        score(judged, tmp_path, channel_weights=str(weights), split=split, **options)
        end = f"{weights if name == 'unit' else folder.name}-1+2" + ("-train" if split == "train" else "")
        found = content(tmp_path / f"toy-lpips-squeezenet1_1-random-s0-{end}")
        if split == "train":
            assert found["scores"]["two_afc"]["value"] == pytest.approx(told["scores"][name]["two_afc"], abs=0.02)
    assert [parent["kind"] for parent in found["parents"]] == ["judgments", "weights", "fitted metric"]
    assert fit(judged, tmp_path)["status"] == "already done"
    fit(judged, tmp_path, strengths=(1.0,), overwrite=True)
    with pytest.raises(ArtifactError, match="its fitted metric .* has changed since"):
        score(judged, tmp_path, channel_weights=str(folder), **options)


def test_an_interrupted_fit_ends_as_an_undisturbed_one(judged, tmp_path, monkeypatch):
    fit(judged, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(fit_metric, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(judged, tmp_path)
    fit(judged, tmp_path)
    name = "toy-fit-squeezenet1_1-random-s0-1+2"
    for file in ("metric.safetensors", "fit.json"):
        assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / name / file).read_bytes()


def test_ratings_can_be_fitted_to(judged, tmp_path):
    fit(judged, tmp_path, "rated", split="all", layer=("1",), out=tmp_path / "fit")
    told = content(tmp_path / "fit", "fit.json")
    assert told["scores"]["fitted"]["srcc"] > 0.9
    assert told["fit"]["link"][0] < told["fit"]["link"][1]


def test_a_run_of_this_toolkit_is_a_metric_too(judged, chain, tmp_path):
    options = {"metric": "perceptual", "network": str(chain / "runs" / "run"), "layer": ("conv2", "latent")}
    with pytest.raises(ConfigError, match=r"image must be \(B, 3, 32, 32\)") as caught:
        score(judged, tmp_path, **options)
    assert "--image-size" in caught.value.hint
    score(judged, tmp_path, image_size=32, **options)
    found = content(tmp_path / "toy-perceptual-run-conv2+latent")
    assert found["scores"]["two_afc"]["value"] > 0.5
    assert found["saw"].startswith("shapes, by autoencode")
    assert {parent["kind"] for parent in found["parents"]} == {"judgments", "checkpoint"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"explicit": {"sigma"}, "sigma": 2.0}, ConfigError, "--sigma is read only with --metric pse"),
        ({"metric": "ms-ssim"}, ConfigError, "at least 176 px"),
        ({"metric": "perceptual", **RANDOM, "layer": ("9",)}, ConfigError, "--layer"),
        ({"metric": "lpips", **RANDOM}, ConfigError, "published channel weights belong to"),
        ({"metric": "lpips", "channel_weights": "nowhere"}, ArtifactError, "nowhere does not exist"),
        ({"split": "val"}, DataError, "val"),
        ({"folder": "absent"}, DataError, "absent"),
    ],
)
def test_a_score_that_can_not_be_made_is_refused_before_anything_is_written(judged, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        score(judged, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def rated(judged, folder, score_of):
    """The folder of ratings with other ones: `score_of` takes the number of the reference."""
    import shutil

    shutil.copytree(judged / "rated", folder)
    header, *lines = (folder / "dmos.csv").read_text().splitlines()
    fields = [line.split(",") for line in lines]
    rows = [f"{dist},{ref},{score_of(int(ref[1:].split('-')[0]))},{var}" for dist, ref, _, var in fields]
    (folder / "dmos.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_ratings_that_tell_nothing_apart_are_found_before_anything_is_written(judged, tmp_path):
    equal = rated(judged, tmp_path / "equal", lambda reference: 3)
    with pytest.raises(DataError, match="all ratings of .*equal in the split all are equal"):
        fit(equal.parent, tmp_path / "runs", "equal", split="all")
    one = rated(judged, tmp_path / "one", lambda reference: 3 + (reference == 0))
    with pytest.raises(DataError, match="outside of one of the 3 inner folds are equal"):
        fit(one.parent, tmp_path / "runs", "one", split="all")
    assert not (tmp_path / "runs").exists()


def test_a_fit_that_finds_nothing_does_not_stand_in_the_way_of_another(judged, tmp_path):
    """People who are of two minds about everything leave every weight at 0."""
    import shutil

    folder = tmp_path / "torn"
    shutil.copytree(judged / "toy", folder)
    honest = (folder / "train.csv").read_text()
    header, *lines = honest.splitlines()
    torn = [",".join([*line.split(",")[:3], "1,1"]) for line in lines]
    (folder / "train.csv").write_text("\n".join([header, *torn]) + "\n")
    for strength in (0.1, 0.01):
        with pytest.raises(DataError, match="every weight became 0") as caught:
            fit(tmp_path, tmp_path / "runs", "torn", strengths=(strength,))
        assert "--strengths" in caught.value.hint
    assert not list((tmp_path / "runs").glob("*/*"))
    (folder / "train.csv").write_text(honest)
    assert fit(tmp_path, tmp_path / "runs", "torn", strengths=(0.1,))["status"] == "done"


@pytest.mark.parametrize("stage", [fit, score])
def test_a_dry_run_knows_which_networks_there_are(judged, chain, tmp_path, stage):
    metric = {"metric": "perceptual"} if stage is score else {}
    for network, error in (("squeezenet9", ConfigError), (str(chain / "data"), ArtifactError)):
        with pytest.raises(error, match="did you mean|is not a run"):
            stage(judged, tmp_path, **metric, network=network, network_weights=None, dry_run=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folder": "alike", "split": "val"}, "fitted to preferences or ratings"),
        ({"k": 7}, "--k 7 needs as many reference images; split train has 6"),
        ({"network": "squeezenet9"}, "did you mean"),
        ({"image_size": 16, "layer": ("4",)}, "at least"),
    ],
)
def test_a_fit_that_can_not_be_made_is_refused_before_anything_is_written(judged, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        fit(judged, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(judged, tmp_path):
    for outcome in (score(judged, tmp_path, dry_run=True, metric="lpips"), fit(judged, tmp_path, dry_run=True)):
        assert (outcome["status"], outcome["images"] <= REFERENCES * (COPIES + 1)) == ("dry run", True)
    assert not list(tmp_path.iterdir())


def test_inspect_knows_the_folders(judged, tmp_path):
    score(judged, tmp_path)
    fit(judged, tmp_path, strengths=(0.1,), out=tmp_path / "fit")
    assert json.loads(describe(tmp_path / "toy-mse", as_json=True))["stage"] == "score-metric"
    assert json.loads(describe(tmp_path / "fit", as_json=True))["stage"] == "fit-metric"
    assert "kind: fitted metric" in describe(tmp_path / "fit" / "metric.safetensors", as_json=False)


def test_another_file_of_weights_is_another_score(judged, tmp_path):
    from safetensors.torch import save_file

    from pretext.perceptual.networks import build_network

    options = {
        "metric": "perceptual",
        "network": "squeezenet1_1",
        "layer": ("1",),
        "weights_dir": tmp_path,
        "offline": True,
    }
    for seed in (0, 1):
        network = build_network("squeezenet1_1", layers=("1",), weights="random", seed=seed)
        save_file(network._inner.graph.state_dict(), tmp_path / "squeezenet1_1.safetensors")
        if seed == 0:
            assert score(judged, tmp_path, **options)["status"] == "done"
            assert score(judged, tmp_path, **options)["status"] == "already done"
        else:
            with pytest.raises(ArtifactError, match=r"its weights \(squeezenet1_1\) has changed since"):
                score(judged, tmp_path, **options)
    (tmp_path / "squeezenet1_1.safetensors").unlink()
    assert score(judged, tmp_path, **options)["status"] == "already done"
    with pytest.raises(DataError, match="is missing"):
        score(judged, tmp_path, overwrite=True, **options)
    assert score(judged, tmp_path, **options)["status"] == "already done", "nothing is lost"


def test_published_channel_weights_beside_another_file_of_the_networks_weights_are_noted(judged, tmp_path):
    from safetensors.torch import save_file
    from torch import rand

    from pretext.perceptual.networks import build_network, default_taps
    from pretext.perceptual.weights import is_published_file

    name = "squeezenet1_1"
    network = build_network(name, layers=default_taps(name), weights="random")
    save_file(network._inner.graph.state_dict(), tmp_path / f"{name}.safetensors")
    weights = {f"lin{layer}.model.1.weight": rand(1, count, 1, 1) for layer, count in enumerate(network.channels)}
    save_file(weights, tmp_path / "lpips-squeeze-v0.1.safetensors")
    options = {"metric": "lpips", "network": name, "weights_dir": tmp_path, "offline": True, "image_size": 32}
    for channel_weights, notes in (("published", 1), ("unit", 0)):
        score(judged, tmp_path, channel_weights=channel_weights, out=tmp_path / channel_weights, **options)
        assert len(found := content(tmp_path / channel_weights)["notes"]) == notes
        assert not notes or f"torchvision's own weights of {name}; the file that was used is another one" in found[0]
    assert is_published_file("vgg16", "sha256:397923af" + "0" * 56)
    assert not is_published_file("vgg16", "sha256:397923ae" + "0" * 56)
