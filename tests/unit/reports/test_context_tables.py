"""What was compared, its cost, its published neighbours, and what is missing."""

from __future__ import annotations

import pytest

from pretext.artifacts.atomic import read_json, write_json
from pretext.reports.context_tables import (
    cost_table,
    evaluations_table,
    methods_table,
    runs_table,
)


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def test_methods_say_what_differs_and_once_what_does_not(study):
    table = methods_table(study)
    rows = {row["method"]: row for row in _records(table)}
    assert rows["cnn-pse4"]["what"] == "cnn; autoencode, loss pse"
    assert rows["cnn-pse4"]["training"] == "sigma 4, truncate 4, padding symmetric, residual abs"
    assert rows["cnn-mse"]["training"] == ""
    assert rows["cnn-mse"]["seeds"] == "0, 1"
    assert rows["cnn-mse"]["pretrained_on"] == "shapes unlabeled, 6,800 images"
    assert rows["pixels"]["what"] == "control: no encoder, the pixels themselves, 32 px"
    assert rows["cnn-random"]["what"] == "control: weights as initialised (cnn)"
    assert rows["cnn-random"]["parameters"] == 103_000
    assert rows["pixels"]["parameters"] is None
    assert table.note == ("Of all pretrained ones: width 0.25, 64 features, 32 px, 20 epochs, batch 128, adam, "
                          "lr 0.001, cosine schedule, augmentation small, fp32, best weights kept.")  # fmt: skip


def test_one_method_keeps_its_settings(workshop):
    workshop.add("a")
    table = methods_table(workshop.compare())
    assert "20 epochs" in _records(table)[0]["training"]
    assert table.note == ""


def test_colour_methods_say_their_colours_and_bins(workshop):
    workshop.add_color("a")
    workshop.add_color("b", space="rgb")
    rows = {row["method"]: row for row in _records(methods_table(workshop.compare()))}
    assert rows["simplenet5-split-brain-lab"]["what"] == "simplenet5; split-brain, colours lab, loss cross-entropy"
    assert rows["simplenet5-split-brain-lab"]["training"] == "channels L|ab"
    assert rows["simplenet5-split-brain-rgb"]["training"] == "channels R|GB"
    note = methods_table(workshop.compare()).note
    assert note.startswith("Of all pretrained ones: 100|100 bins, 12 px targets, reflect border, rebalance 1, ")


def test_layers_of_a_family_share_a_row(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 0.5), ("latent", 1.0))
    (row,) = _records(evaluations_table(workshop.compare()))
    assert row["evaluation"] == "Linear probe"
    assert row["layers"] == "conv1, conv2 (resize); latent"
    assert "settings" not in row


def test_evaluations_of_output_vectors_say_nothing_of_layers(study):
    assert "layers" not in _records(evaluations_table(study))[0]


def test_evaluations_say_folds_settings_and_notes(study):
    rows = {row["evaluation"]: row for row in _records(evaluations_table(study))}
    assert rows["Linear probe"]["folds"] == "5 folds (seed 12345); tested on the test split"
    assert (rows["Linear probe"]["train_images"], rows["Linear probe"]["test_images"]) == (2000, 400)
    assert rows["Fine-tuned"]["settings"] == "head linear"
    slides = rows['Slides\' "fine-tune" (weights fixed)']
    assert slides["notes"] == "the encoder's weights never move"
    assert slides["chosen_on"] == "inner folds of each training set"


@pytest.mark.parametrize(("protocol", "words"), [
    ({"name": "official", "k": None}, "the data set's official folds; tested on the test split"),
    ({"name": "other"}, "other; tested on the test split"),
])  # fmt: skip
def test_other_folds_are_named(workshop, protocol, words):
    workshop.add("a", ("probe-linear", 1.0), protocol=protocol)
    assert _records(evaluations_table(workshop.compare()))[0]["folds"] == words


def test_cost_is_what_the_manifests_say(study):
    table = cost_table(study)
    rows = {row["run"]: row for row in _records(table)}
    assert rows["shapes-cnn-pse4-s1"] == {
        "run": "shapes-cnn-pse4-s1", "pretraining_seconds": 1235.5, "images_seen": 136_000, "images_per_second": 901.0,
        "evaluation_seconds": 21.0 + 5 * 65.0, "parameters": 355_000, "device": rows["shapes-pixels"]["device"],
    }  # fmt: skip
    assert rows["shapes-pixels"]["pretraining_seconds"] is None
    assert rows["shapes-pixels"]["evaluation_seconds"] == 151.0
    assert "shapes-cnn-pse8-s0" not in rows
    assert table.note.endswith("Energy was not measured.")


def test_energy_is_shown_where_it_is_known(workshop):
    layout = workshop.add("a")
    workshop.add("b", loss="l1")
    manifest = read_json(layout.manifest)
    manifest["summary"]["energy_joules"] = 5400
    write_json(layout.manifest, manifest)
    table = cost_table(workshop.compare())
    assert [row["energy_kj"] for row in _records(table)] == [5.4, None]
    assert table.note.endswith("Energy of pretraining, where it was measured.")


def test_runs_table_shows_what_is_wrong(study):
    rows = {row["run"]: row for row in _records(runs_table(study))}
    assert len(rows) == len(study.runs) == 10
    assert rows["shapes-cnn-bce-s0"]["state"] == "broken"
    assert "not valid JSON" in rows["shapes-cnn-bce-s0"]["problems"]
    assert rows["shapes-cnn-pse8-s0"]["state"] == "unfinished"
    assert rows["shapes-cnn-pse8-s0"]["problems"] == "pretrain: begun and not finished (epoch 7, of 20)"
    hostile = next(row for name, row in rows.items() if name.startswith("<script>"))
    assert (hostile["state"], hostile["results"]) == ("partly unfinished", "probe-linear")
    assert rows["shapes-cnn-mse-s1"]["state"] == "done"
    assert rows["shapes-cnn-mse-s1"]["seed"] == 1
    assert rows["shapes-cnn-mse-s1"]["method"] == "cnn-mse"
    assert rows["shapes-cnn-mse-s1"]["problems"] == ""


def test_result_that_is_not_used_is_not_listed_as_used(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), ("probe-knn", 1.0))
    rows = {row["run"]: row for row in _records(runs_table(workshop.compare()))}
    assert rows["b"]["results"] == "probe-knn"
    assert rows["b"]["problems"] == "probe-linear: a is the same method with the same seed 0"
