"""The answer in words follows from the numbers."""

from __future__ import annotations

import dataclasses

import pytest

from pretext.reports.answer import answer, is_established, warnings
from pretext.reports.tables import percent


def _certain(evaluation):
    """The same evaluation with every lead over seeds certain."""
    evaluation.seed_differences = [dataclasses.replace(found, interval=(0.1, 0.2), image_interval=(0.1, 0.2))
                                   for found in evaluation.seed_differences]  # fmt: skip
    return evaluation


def test_no_result_no_answer(workshop):
    workshop.add("a")
    study = workshop.compare()
    assert answer(study).headline == "No finished result of a pretrained encoder is here yet."
    assert any("run pretext probe" in line for line in warnings(study))


def test_only_controls(workshop):
    workshop.add("r", ("probe-linear", 1.0), loss=None)
    found = answer(workshop.compare())
    assert found.headline == "No finished result of a pretrained encoder is here yet."
    assert found.parts == [("Linear probe", ["Only controls have been measured."])]


def test_nothing_to_choose_between(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    assert answer(workshop.compare()).headline.startswith("No two pretrained encoders were measured alike")


def test_one_seed_significant_on_images(workshop):
    workshop.add("a", ("probe-linear", 0.3))
    workshop.add("b", ("probe-linear", 5.0), loss="l1")
    found = answer(workshop.compare())
    assert found.headline == ("Among the pretrained encoders cnn-l1 scores best; its lead over the runner-up is not "
                              "established.")  # fmt: skip
    (_, sentences), *_ = found.parts
    entry = workshop.compare().evaluations[0].entries[0]
    low, high = map(percent, entry.image_interval)
    score = f"{percent(entry.top1)} % top-1, one seed (95 % {low} to {high} over test images)"
    assert sentences[0] == f"Best: cnn-l1, {score}."
    assert sentences[1].startswith("Next: cnn-mse, ")
    assert "p <0.001), but method or luck of the seed is open" in sentences[1]
    assert len(sentences) == 2


def test_one_seed_not_significant(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), loss="l1")
    (_, sentences), *_ = answer(workshop.compare()).parts
    assert ", of one seed: not significant on these test images (McNemar with Holm's correction, p = " in sentences[1]


def test_seeds_decide_whether_a_lead_is_established(workshop):
    for seed in (0, 1):
        workshop.add(f"a{seed}", ("probe-linear", 0.3), seed=seed)
        workshop.add(f"b{seed}", ("probe-linear", 5.0), seed=seed, loss="l1")
        workshop.add(f"r{seed}", ("probe-linear", 0.0), seed=seed, loss=None)
    study = workshop.compare()
    (evaluation,) = study.evaluations
    evaluation.seed_differences = [dataclasses.replace(found, interval=(-0.1, 0.2))
                                   for found in evaluation.seed_differences]  # fmt: skip
    (_, sentences), *_ = answer(study).parts
    assert "not established: 95 % \N{MINUS SIGN}10.0 to 20.0 over 2 seeds" in sentences[1]
    assert sentences[1].endswith("McNemar holds for 2 of 2.")
    assert sentences[2].startswith("Best control: cnn-random, ")
    _certain(evaluation)
    found = answer(study)
    assert found.headline.endswith("its lead over the runner-up is established.")
    assert "behind, established: 95 % 10.0 to 20.0 over 2 seeds, 10.0 to 20.0 over test images" in found.parts[0][1][1]
    assert is_established(evaluation, *evaluation.entries[:2])


@pytest.mark.parametrize(("knn", "headline"), [
    ((5.0, 0.3), "cnn-mse scores best in all 2 evaluations; its lead is established in none of them."),
    ((0.3, 5.0), "best in 1 of 2 evaluations, another one in 1; the lead is established in none of them."),
    ((99.0, 99.0), "cnn-mse scores best in 1 of 2 evaluations, a tie in 1; the lead is established in none of them."),
])  # fmt: skip
def test_several_evaluations(workshop, knn, headline):
    workshop.add("a", ("probe-linear", 5.0), ("probe-knn", knn[0]))
    workshop.add("b", ("probe-linear", 0.3), ("probe-knn", knn[1]), loss="l1")
    assert answer(workshop.compare()).headline.endswith(headline)


def test_tie_has_no_winner(workshop):
    workshop.add("a", ("probe-linear", 99.0))
    workshop.add("b", ("probe-linear", 99.0), loss="l1")
    assert answer(workshop.compare()).headline == "Among the pretrained encoders no single one scores best."


def test_control_that_wins_is_said_so(workshop):
    workshop.add("a", ("probe-linear", 0.3))
    workshop.add("b", ("probe-linear", 0.5), loss="l1")
    workshop.add("r", ("probe-linear", 5.0), loss=None)
    found = answer(workshop.compare())
    assert found.headline.endswith("In 1 of 1 evaluations a control scores higher than they do.")
    assert any(line.startswith("Better than every pretrained encoder: the control cnn-random, ") and "ahead" in line
               for line in found.parts[0][1])  # fmt: skip


def test_each_data_set_has_its_own_winner(workshop):
    other = workshop.fab.make_data(workshop.root / "data" / "other", num_test=60, seed=1)
    for name, loss, here, there in (("a", "mse", 5.0, 0.3), ("b", "l1", 0.3, 5.0)):
        workshop.add(name, ("probe-linear", here), loss=loss)
        workshop.add(f"{name}2", ("probe-knn", there), loss=loss, data=other, lr=0.5)
    study = workshop.compare()
    headline = answer(study).headline
    assert "On other, among the pretrained encoders cnn-l1, lr 0.5 scores best" in headline
    assert "On shapes, among the pretrained encoders cnn-mse, lr 0.001 scores best" in headline
    assert any(line.startswith("The results are of 2 different data sets (other, shapes).") for line in warnings(study))


def test_output_vectors_decide_and_a_better_layer_is_told(workshop):
    workshop.add_color("a", ("conv1", 4.0), ("latent", 0.3))
    workshop.add_color("b", ("conv1", 0.5), ("latent", 2.0), space="rgb")
    found = answer(workshop.compare())
    assert found.headline.startswith("Among the pretrained encoders simplenet5-split-brain-rgb scores best; ")
    ((label, sentences),) = found.parts
    assert label == "Linear probe"
    assert sentences[-1].startswith("The highest layer of all is conv1 of simplenet5-split-brain-lab, ")
    assert sentences[-1].endswith(" %: the best of many, chosen on the test images.")


def test_layers_that_are_no_better_are_told(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 0.2), ("latent", 4.0))
    study = workshop.compare()
    conv1 = next(evaluation for evaluation in study.evaluations if evaluation.layer == "conv1")
    ((_, sentences),) = answer(study).parts
    assert sentences[-1] == ("No other layer scores higher; the next is conv1 of simplenet5-split-brain-lab, "
                             f"{percent(conv1.entries[0].top1)} %.")  # fmt: skip


def test_layers_of_controls_alone_are_no_answer(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 0.5), space=None)
    assert answer(workshop.compare()).parts == [("Linear probe", ["Only controls have been measured."])]


def test_a_layer_wants_a_random_encoder_but_no_pixels(workshop):
    workshop.add_color("a", *((f"conv{n}", 0.5) for n in range(1, 5)), ("latent", 1.0))
    lines = [line for line in warnings(workshop.compare()) if line.startswith("Controls")]
    assert lines == ["Controls missing: a random encoder in 5 evaluations.",
                     "Controls missing: raw pixels in Linear probe."]  # fmt: skip


def test_warnings_of_the_study(study):
    lines = warnings(study)
    assert lines[0].startswith("Not everything of these runs could be used, see Runs: <script>")
    assert 'Controls missing: a random encoder in Slides\' "fine-tune" (weights fixed).' in lines
    assert "One seed only: cnn-l1. Such a score cannot be told from the luck of its seed." in lines
    assert any(line.startswith("With two seeds") for line in lines)
    assert lines[-1] == ("The smallest test set has 400 images: one score is only sure to about "
                         "\N{PLUS-MINUS SIGN}4.9 points.")  # fmt: skip


def test_every_missing_control_is_named(workshop):
    workshop.add("a", ("probe-linear", 1.0), ("fine-tune-full", 1.0), ("fine-tune-frozen", 1.0))
    lines = [line for line in warnings(workshop.compare()) if line.startswith("Controls")]
    assert lines == ["Controls missing: a random encoder in Linear probe, Frozen encoder, trained head.",
                     "Controls missing: raw pixels in Linear probe.",
                     "Controls missing: training from scratch in Fine-tuned."]  # fmt: skip


def test_many_names_become_a_number(workshop):
    for lr in (0.1, 0.2, 0.3, 0.4, 0.5):
        workshop.add(f"a{lr}", ("probe-linear", 1.0), lr=lr)
    assert any(line.startswith("One seed only: 5 methods.") for line in warnings(workshop.compare()))
