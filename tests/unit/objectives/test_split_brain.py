"""Split-brain: who sees what, where training starts, and what the best constant scores."""

import math

import pytest
import torch
from color_fixture import make_task

from pretext.catalog import COLOR_SPACES, ENCODERS
from pretext.color import downscale, lab_to_unit, rgb_to_lab
from pretext.losses import BinCrossEntropy, HalfSquaredError, half_squared_error
from pretext.objectives.base import Setting, View
from pretext.objectives.color_task import WIRINGS, network_shape
from pretext.objectives.split_brain import build_split_brain

SIZE = 64


def images(count=4, seed=0):
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")


def build(wiring="split-brain", space="lab", loss=None, image01=None, seed=0, **encoder_options):
    task, view = make_task(images() if image01 is None else image01, space=space, size=4)
    loss = loss or BinCrossEntropy()
    kind = "cross-entropy" if isinstance(loss, BinCrossEntropy) else "regression"
    torch.manual_seed(seed)
    encoder = ENCODERS["simplenet5"].load()(
        image_size=SIZE, **{"width": 0.5, **network_shape(wiring, task, kind), **encoder_options}
    )
    return build_split_brain(Setting(encoder, loss, color=task), wiring=wiring), view


def gradients_by_channel(module, view, head):
    """How much each input channel moves one head's output."""
    input01 = view.input01_BCHW.clone().requires_grad_()
    module.eval()(input01)[head].square().sum().backward()
    return input01.grad.abs().sum((0, 2, 3))


class TestInformationBarrier:
    @pytest.mark.parametrize("wiring", WIRINGS)
    @pytest.mark.parametrize(("space", "first", "second"), [("lab", "L", "ab"), ("rgb", "R", "GB")])
    def test_a_head_sees_its_own_channels_only(self, wiring, space, first, second):
        module, view = build(wiring, space)
        sees = {first: [True, False, False], second: [False, True, True]}
        for name in module.heads:
            assert (gradients_by_channel(module, view, name) > 0).tolist() == sees[name.split()[0]], name

    def test_in_training_too(self):
        module, view = build("cross-channel")
        input01 = view.input01_BCHW.clone().requires_grad_()
        # Through batch norm's statistics one pass shares a little with the other: values do, the blanked pixels do not.
        module.train()(input01)["L to ab"].square().sum().backward()
        assert input01.grad[:, 0].abs().sum() > 0

    def test_what_a_network_must_not_see_does_not_change_what_it_says(self):
        module, view = build()
        module.eval()
        other = view.input01_BCHW.clone()
        other[:, 1:] = torch.rand(other[:, 1:].shape)
        with torch.no_grad():
            before, after = module(view.input01_BCHW), module(other)
        assert torch.equal(before["L to ab"], after["L to ab"])
        assert not torch.equal(before["ab to L"], after["ab to L"])


class TestWhereTrainingStarts:
    @pytest.mark.parametrize(("space", "bins"), [("lab", (100, 100)), ("lab-313", (50, 313)), ("rgb", (100, 100))])
    def test_the_first_cross_entropy_is_near_the_logarithm_of_the_number_of_bins(self, space, bins):
        noise = torch.rand(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        module, view = build(space=space, image01=noise)
        terms = module.eval().terms_of(view)
        for value, number in zip(terms.values(), (bins[1], bins[0]), strict=True):
            assert float(value.detach()) == pytest.approx(math.log(number), rel=0.05)

    @pytest.mark.parametrize("space", COLOR_SPACES)
    @pytest.mark.parametrize("wiring", WIRINGS)
    def test_every_space_and_wiring_has_a_finite_loss_and_gradient(self, space, wiring):
        module, view = build(wiring, space)
        loss = module.loss_of(view)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in module.parameters())


class TestConstants:
    def test_the_constant_loss_is_what_the_best_constant_scores(self):
        module, _ = build()
        share = torch.from_numpy(module.task.count_K[1]).double()
        share = share / share.sum()
        assert module.constant_losses()["L to ab"] == pytest.approx(-float(torch.special.xlogy(share, share).sum()))

    def test_a_regressions_constant_is_half_the_variance(self):
        module, view = build(loss=HalfSquaredError())
        target = downscale(view.input01_BCHW, 4, border="reflect")
        for name, (_, predicted) in module.heads.items():
            channels = module.task.quantizer.channels(predicted)
            mean = target[:, channels].mean((0, 2, 3), keepdim=True)
            score = half_squared_error(mean.expand(len(target), -1, 4, 4), target[:, channels])
            assert module.constant_losses()[name] == pytest.approx(
                float(score), rel=0.02
            )  # inputs are rounded to bytes

    def test_grey_images_leave_nothing_to_predict_of_colour(self):
        grey = images()[:, :1].expand(-1, 3, -1, -1)
        module, view = build("colorize", image01=grey)
        assert module.constant_losses() == {"L to ab": 0.0}
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            loss = module.loss_of(view)
            loss.backward()
            optimizer.step()
        assert float(loss.detach()) < 0.05

    @pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.9, 0.1, 0.4)])
    @pytest.mark.parametrize("space", COLOR_SPACES)
    def test_images_of_one_colour_train_and_are_shown(self, colour, space):
        flat = torch.tensor(colour)[None, :, None, None].expand(4, 3, SIZE, SIZE)
        module, view = build(space=space, image01=flat)
        loss = module.loss_of(view)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in module.parameters())
        assert module.eval().picture(view).height > 0


class TestRebalancing:
    def test_it_lifts_rare_bins_in_the_loss_but_not_in_what_is_reported(self):
        plain, view = build("colorize", loss=BinCrossEntropy(1.0))
        lifted, _ = build("colorize", loss=BinCrossEntropy(0.5))
        plain.eval(), lifted.eval()
        count = plain.task.count_K[1]
        weight = lifted.weight_1
        assert weight[count.argmax()] == weight[torch.from_numpy(count) > 0].min()
        assert float((weight * torch.from_numpy(count / count.sum())).sum()) == pytest.approx(1, abs=1e-5)
        assert not torch.equal(plain.loss_of(view), lifted.loss_of(view))
        assert torch.equal(plain.terms_of(view)["L to ab"], lifted.terms_of(view)["L to ab"])
        assert plain.weight_1 is None


class TestPictures:
    def test_a_perfect_prediction_looks_like_the_truth(self, monkeypatch):
        module, view = build(
            "colorize", space="lab-313", image01=images().mean((2, 3), keepdim=True).expand(-1, -1, 64, 64)
        )
        logit = torch.nn.functional.one_hot(view.target_BGHW[:, 1].long(), 313).permute(0, 3, 1, 2) * 100.0
        monkeypatch.setattr(module, "forward", lambda image: {"L to ab": logit})
        shown = {}
        monkeypatch.setattr("pretext.objectives.split_brain.image_table", shown.update)
        module.picture(view)
        assert list(shown) == ["seen", "predicted, mode", "mean at T=0.38", "truth"]
        truth = rgb_to_lab(shown["truth"])
        for row in ("predicted, mode", "mean at T=0.38"):
            assert (rgb_to_lab(shown[row]) - truth)[
                :, 1:
            ].abs().max() < 9  # half of a bin's diagonal, and the gamut's edge
        assert rgb_to_lab(shown["seen"])[:, 1:].abs().max() < 0.1

    def test_a_regression_is_shown_in_its_own_units(self, monkeypatch):
        flat = images().mean((2, 3), keepdim=True).expand(-1, -1, 64, 64)
        module, view = build("colorize", loss=HalfSquaredError(), image01=flat)
        truth = lab_to_unit(rgb_to_lab(flat))[:, 1:, :4, :4]
        monkeypatch.setattr(module, "forward", lambda image: {"L to ab": truth})
        shown = {}
        monkeypatch.setattr("pretext.objectives.split_brain.image_table", shown.update)
        module.picture(view)
        torch.testing.assert_close(shown["predicted"], shown["truth"], rtol=0, atol=0.02)


class TestErrors:
    def test_a_grid_that_is_not_the_targets(self):
        task, _ = make_task(images(), size=8)
        encoder = ENCODERS["simplenet5"].load()(
            image_size=SIZE, width=0.5, **network_shape("split-brain", task, "cross-entropy")
        )
        with pytest.raises(ValueError, match="target size must be 4, the grid of simplenet5 at 64 px, got 8"):
            build_split_brain(Setting(encoder, BinCrossEntropy(), color=task), wiring="split-brain")

    @pytest.mark.parametrize("space", ["lab-rescaled", "lab-rescaled-all"])
    def test_regression_needs_the_same_scale_for_every_image(self, space):
        with pytest.raises(ValueError, match=f"got {space}"):
            build(loss=HalfSquaredError(), space=space)

    def test_a_classification_needs_targets(self):
        module, view = build()
        with pytest.raises(ValueError, match="target must be given"):
            module.loss_of(View(view.input01_BCHW, view.generator))

    def test_a_setting_without_colours(self):
        encoder = ENCODERS["simplenet5"].load()(image_size=SIZE)
        with pytest.raises(ValueError, match="must be given"):
            build_split_brain(Setting(encoder, BinCrossEntropy()), wiring="split-brain")


@pytest.mark.parametrize(
    ("wiring", "loss", "shape"),
    [
        ("split-brain", "cross-entropy", {"channels": ["L", "ab"], "outputs": [313, 50]}),
        ("colorize", "cross-entropy", {"channels": ["L"], "outputs": [313]}),
        ("predict-light", "regression", {"channels": ["ab"], "outputs": [1]}),
        ("two-colorizers", "regression", {"channels": ["L", "L"], "outputs": [2, 2]}),
        ("cross-channel", "cross-entropy", {"channels": ["Lab"], "outputs": [363]}),
    ],
)
def test_the_shape_of_the_networks(wiring, loss, shape):
    task, _ = make_task(images(), space="lab-313", size=4)
    assert network_shape(wiring, task, loss) == shape
