"""What a result says of the images that its models are fitted and judged on."""

from __future__ import annotations

import pytest

from pretext.stage_configs import LabelOptions
from pretext.tasks.plans import label_facts


@pytest.mark.parametrize(("options", "has_test", "facts"), [
    ({}, True, {"name": "kfold", "test": "test split", "k": 5, "fold_seed": 12345}),
    ({"k": 3, "fold_seed": 1}, False, {"name": "kfold", "test": "held-out folds", "k": 3, "fold_seed": 1}),
    ({"folds": "official"}, True, {"name": "official", "test": "test split"}),
    ({"folds": "official", "labels_per_class": (1,)}, True, {"name": "official", "test": "test split", "stratified": True}),
    ({"folds": "official", "labels_per_class": (1,), "unstratified": True}, True,
     {"name": "official", "test": "test split", "stratified": False}),
])  # fmt: skip
def test_facts_of_the_labels(options, has_test, facts):
    assert label_facts(LabelOptions(**options), has_test=has_test) == facts
