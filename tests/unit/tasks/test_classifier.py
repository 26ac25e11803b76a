"""A head on a layer of an encoder: what it sees, what is trained, and which layer a protocol means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pretext.artifacts.rows import Rows
from pretext.color import lab_to_bytes, rgb_to_lab
from pretext.encoders.cnn import build_cnn
from pretext.encoders.conv4 import build_conv4
from pretext.encoders.fcn import build_resnet18_fcn, build_simplenet5
from pretext.tasks.classifier import Classifier, ClassifierLearner, build_classifier, count_features, run_over
from pretext.tasks.protocols import FROZEN, FULL, STUDENT, STUDENT_DAE
from pretext.training.device import resolve_compute
from pretext.training.pool import Batch, ImagePool

SIZE = 16


def tiny_cnn():
    torch.manual_seed(0)
    return build_cnn(image_size=SIZE, width=0.25, latent_dim=6).eval()


def tiny_split(**options):
    torch.manual_seed(0)
    options = {"channels": ("L", "ab"), "outputs": (5, 7)} | options
    return build_resnet18_fcn(image_size=SIZE, width=0.125, **options).eval()


def bytes_of(count, seed=0):
    return torch.randint(256, (count, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_layer_is_flattened_for_the_head():
    encoder = tiny_cnn()
    image01_BCHW = torch.rand(3, 3, SIZE, SIZE)
    features = Classifier(encoder, nn.Identity(), layer="conv2")
    expected = encoder.forward_layer(image01_BCHW, "conv2").flatten(1)
    assert torch.equal(features(image01_BCHW), expected)
    assert torch.equal(Classifier(encoder, nn.Identity())(image01_BCHW), encoder(image01_BCHW))


def test_numbers_of_a_layer_are_counted_and_nothing_is_touched():
    for encoder in (tiny_cnn().train(), tiny_split()):
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        modes = [module.training for module in encoder.modules()]
        random = torch.get_rng_state()
        image01_BCHW = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        counts = {layer: count_features(encoder, layer) for layer in encoder.layers}
        assert [module.training for module in encoder.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)
        assert counts == {layer: encoder.forward_layer(image01_BCHW, layer)[0].numel() for layer in encoder.layers}


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="layer must be one of conv1, .*latent, got 'conv9'"):
        count_features(tiny_cnn(), "conv9")
    with pytest.raises(ValueError, match="layer must be one of conv1, .*latent, got 'logits'"):
        build_classifier(tiny_cnn(), head="linear", num_classes=3, protocol=STUDENT)


@pytest.mark.parametrize(("build", "layers"), [
    (tiny_cnn, ("latent", "logits", "latent")),
    (lambda: build_conv4(image_size=SIZE), ("latent", "logits", "conv4")),
    (tiny_split, ("latent", "logits", "layer3")),
    (lambda: build_simplenet5(image_size=52, channels=("L", "ab"), outputs=(5, 7)), ("latent", "logits", "conv4")),
])  # fmt: skip
def test_the_layer_that_a_protocol_means(build, layers):
    encoder = build()
    assert tuple(protocol.layer_in(encoder) for protocol in (FULL, STUDENT, STUDENT_DAE)) == layers


def test_the_student_projects_head_is_as_wide_as_its_report_says():
    torch.manual_seed(0)
    encoder = build_simplenet5(image_size=96, channels=("L", "ab"), outputs=(100, 100))
    classifier = build_classifier(encoder, head="linear", num_classes=10, protocol=STUDENT)
    assert [tuple(value.shape) for value in classifier.head.parameters()] == [(10, 28_800), (10,)]
    denoising = build_classifier(build_conv4(image_size=96), head="linear", num_classes=10, protocol=STUDENT_DAE)
    assert denoising.head[0].in_features == 3456


def test_stored_lab_and_stored_srgb_come_to_the_same_logits():
    encoder, byte_BHWC = tiny_split(), bytes_of(8)
    lab_BHWC = lab_to_bytes(rgb_to_lab(byte_BHWC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).contiguous()
    answers = []
    for space, stored in (("rgb", byte_BHWC), ("lab", lab_BHWC)):
        pool = ImagePool(Rows([stored.numpy()], (SIZE, SIZE, 3), np.dtype(np.uint8)), np.arange(8),
                         device=torch.device("cpu"))  # fmt: skip
        module = Classifier(encoder, nn.Identity(), layer="logits", space=space)
        answers.append(run_over(module, pool, resolve_compute("cpu", "fp32"), batch_size=3))
    assert answers[0].shape == (8, (5 + 7) * (SIZE // 8) ** 2)
    assert answers[0].std() > 0.001
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=0.02 * answers[0].std())


def step(module, protocol):
    """One training step's gradients, and the batch-norm buffers before and after it."""
    learner = ClassifierLearner(module, protocol, "flip", np.arange(6) % 3, np.arange(6) % 3, torch.device("cpu"))
    learner.train_mode()
    before = {name: value.clone() for name, value in module.named_buffers()}
    loss = learner.train_loss(Batch(np.arange(6), bytes_of(6)), torch.Generator().manual_seed(0))
    loss.backward()
    moved = any(not torch.equal(value, before[name]) for name, value in module.named_buffers())
    return {name for name, value in module.named_parameters() if value.grad is not None}, moved


@pytest.mark.parametrize(("protocol", "build", "norm_moves"), [
    (STUDENT, tiny_split, True), (STUDENT_DAE, tiny_split, False), (STUDENT_DAE, tiny_cnn, False), (FULL, tiny_split, True),
])  # fmt: skip
def test_what_a_step_trains(protocol, build, norm_moves):
    module = build_classifier(build(), head="linear", num_classes=3, protocol=protocol)
    trained, moved = step(module, protocol)
    assert moved == norm_moves
    behind = {name for name, _ in module.named_parameters()
              if "logits" in name and protocol is not STUDENT}  # the code and the latent come before the logits  # fmt: skip
    assert trained == {name for name, _ in module.named_parameters()} - behind


def test_a_fixed_encoder_gets_no_gradient():
    module = build_classifier(tiny_cnn(), head="linear", num_classes=3, protocol=FROZEN)
    trained, moved = step(module, FROZEN)
    assert trained == {"head.0.weight", "head.0.bias"}
    assert not moved


def test_training_images_are_augmented_and_validation_images_are_not():
    module = build_classifier(tiny_cnn(), head="linear", num_classes=3, protocol=STUDENT_DAE)
    learner = ClassifierLearner(module, STUDENT_DAE, "flip", np.arange(6) % 3, np.arange(6) % 3, torch.device("cpu"))
    learner.train_mode()
    batch = Batch(np.arange(6), bytes_of(6))
    losses = {float(learner.train_loss(batch, torch.Generator().manual_seed(seed)).detach()) for seed in range(4)}
    assert len(losses) > 1
    assert len({float(learner.val_loss(batch).detach()) for _ in range(4)}) == 1
