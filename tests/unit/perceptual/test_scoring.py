"""Names of metrics, what a request says of folders, and the scores of distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from pretext.catalog import METRICS
from pretext.datasets.judgments import Pairs, Ratings, Triplets
from pretext.errors import ConfigError
from pretext.perceptual import scoring
from pretext.perceptual.scoring import ceilings, metric_word, request_of, score_distances, score_values, told_as_options
from pretext.stage_configs import ScoreMetricConfig

RANDOM = {"network": "squeezenet1_1", "network_weights": "random"}


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("mse", {}, "mse"),
        ("pse", {"sigma": 2.5}, "pse2.5"),
        ("perceptual", {}, "perceptual-vgg16-2"),
        ("lpips", {}, "lpips-vgg16-published"),
        ("perceptual", {**RANDOM, "layer": ("1", "3"), "layer_weights": (1.0, 0.5)},
         "perceptual-squeezenet1_1-random-s7-1+3-by-1-0.5"),
        ("lpips", {**RANDOM, "layer": ("1",), "channel_weights": "unit", "normalize": "none"},
         "lpips-squeezenet1_1-random-s7-unnormalized-unit-1"),
    ],
)  # fmt: skip
def test_a_metric_has_one_word_from_its_options(name, changes, word):
    row = METRICS[name]
    assert metric_word(name, row.options(changes), seed=7) == word


def test_a_request_names_folders_without_their_places(tmp_path):
    (tmp_path / "run").mkdir()
    options = {"network": str(tmp_path / "run"), "channel_weights": str(tmp_path / "run"), "layer": ("latent",)}
    request = request_of(ScoreMetricConfig(judgments=tmp_path, **options), options)
    assert (request["network"], request["channel_weights"], request["layer"]) == ("run", "run", ["latent"])
    assert str(tmp_path) not in str(request)


def judgments(kind, rng, N=80):
    indices = rng.integers(9, size=(3, N))
    common = {"image_paths": [Path(str(n)) for n in range(9)], "group_N": indices[0]}
    if kind is Triplets:
        votes = rng.integers(1, 5, (2, N)).astype(float)
        return Triplets(
            reference_N=indices[0], a_N=indices[1], b_N=indices[2], votes_a_N=votes[0], votes_b_N=votes[1], **common
        )
    if kind is Ratings:
        return Ratings(reference_N=indices[0], distorted_N=indices[1], score_N=rng.normal(size=N), **common)
    return Pairs(first_N=indices[0], second_N=indices[1], same_share_N=(rng.random(N) < 0.5).astype(float), **common)


@pytest.mark.parametrize("kind", [Triplets, Ratings, Pairs])
def test_scores_are_the_fields_own_and_lie_in_their_intervals(kind, monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 50)
    rng = np.random.default_rng(0)
    said = judgments(kind, rng)
    distances = [rng.random(80) for _ in range(2 if kind is Triplets else 1)]
    values = score_values(said, distances)
    if kind is Triplets:
        prefers_a_N = distances[0] < distances[1]
        votes_a_N, votes_b_N = said.votes_a_N, said.votes_b_N
        expected = {"two_afc": np.mean(np.where(prefers_a_N, votes_a_N, votes_b_N) / (votes_a_N + votes_b_N))}
    elif kind is Ratings:
        expected = {"srcc": -stats.spearmanr(distances[0], said.score_N)[0],
                    "krcc": -stats.kendalltau(distances[0], said.score_N)[0], "plcc": values["plcc"]}  # fmt: skip
        assert abs(values["plcc"]) >= abs(np.corrcoef(distances[0], said.score_N)[0, 1]) - 1e-3
    else:
        expected = {"jnd_map": values["jnd_map"]}
        assert values["jnd_map"] >= average_precision_score(said.same_share_N, -distances[0])
    assert values == pytest.approx(expected)
    for name, score in score_distances(said, distances, seed=0).items():
        low, high = score["ci95"]
        assert score["value"] == values[name]
        assert low < values[name] < high
    assert (ceilings(said) is None) == (kind is not Triplets)


def test_the_ceilings_of_votes_are_the_closed_forms():
    said = judgments(Triplets, np.random.default_rng(1))
    share_N = said.votes_a_N / (said.votes_a_N + said.votes_b_N)
    found = ceilings(said)
    assert found["ceiling"] == pytest.approx(np.mean(share_N**2 + (1 - share_N) ** 2))
    assert found["majority"] == pytest.approx(np.mean(np.maximum(share_N, 1 - share_N)))


@pytest.mark.parametrize(
    ("words", "hint"), [("image must be at least 31 px", "--image-size"), ("layers must be a list", "None")]
)
def test_what_a_network_refuses_is_told_as_an_option(words, hint):
    with pytest.raises(ConfigError, match=words) as caught, told_as_options():
        raise ValueError(words)
    assert str(caught.value.hint).startswith(hint)
