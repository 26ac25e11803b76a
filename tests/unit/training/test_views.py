"""Which stored images an encoder reads, and that either kind comes to the same input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretext.artifacts.rows import Rows
from pretext.color import lab_to_bytes, rgb_to_lab
from pretext.encoders.fcn import build_resnet18_fcn
from pretext.training.views import own_input, rows_for


def some_rows():
    return Rows([np.zeros((2, 4, 4, 3), np.uint8)], (4, 4, 3), np.dtype(np.uint8))


class FakeData:
    """As much of a data set as is asked for."""

    def __init__(self, *, with_lab):
        self.rgb_rows, self.lab_rows = some_rows(), some_rows() if with_lab else None
        self.asked = []

    def split(self, name):
        self.asked.append(("rgb", name))
        return SimpleNamespace(images=self.rgb_rows)

    def lab(self, name):
        self.asked.append(("lab", name))
        return self.lab_rows


@pytest.mark.parametrize("with_lab", [True, False])
@pytest.mark.parametrize("colour_changes", [True, False])
@pytest.mark.parametrize("input_space", ["rgb", "lab"])
def test_lab_is_read_only_where_it_is_seen_there_and_left_alone(input_space, colour_changes, with_lab):
    data = FakeData(with_lab=with_lab)
    rows, space = rows_for(data, "train+unlabeled", input_space, colour_changes=colour_changes)
    if input_space == "lab" and with_lab and not colour_changes:
        assert (rows, space) == (data.lab_rows, "lab")
    else:
        assert (rows, space) == (data.rgb_rows, "rgb")
    assert data.asked[-1] == (space, "train+unlabeled")


@pytest.mark.parametrize(("channels", "input_space"), [(("RGB",), "rgb"), (("L", "ab"), "lab")])
def test_srgb_is_brought_to_the_networks_own_input(channels, input_space):
    encoder = build_resnet18_fcn(image_size=16, width=0.125, channels=channels)
    image01_BCHW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = own_input(encoder, image01_BCHW, "rgb")
    assert encoder.input_space == input_space
    assert torch.equal(found, image01_BCHW if input_space == "rgb" else encoder.from_rgb(image01_BCHW))


def test_stored_lab_is_what_the_network_takes_to_half_a_step_of_a_byte():
    encoder = build_resnet18_fcn(image_size=16, width=0.125, channels=("L", "ab"))
    byte_BCHW = torch.randint(256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    stored01_BCHW = lab_to_bytes(rgb_to_lab(byte_BCHW)).float() / 255
    assert own_input(encoder, stored01_BCHW, "lab") is stored01_BCHW
    fresh = own_input(encoder, byte_BCHW.float() / 255, "rgb")
    torch.testing.assert_close(stored01_BCHW, fresh, rtol=0, atol=0.5 / 255 + 1e-5)
