"""What losses cost: PSE beside a blur by convolution and beside MSE, a perceptual loss beside its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import Normalize

from pretext.bench.measure import Contender, Row, race
from pretext.catalog import ENCODERS
from pretext.encoders.decoders import build_decoder_for
from pretext.losses import MSELoss, gaussian_kernel, mse, pse
from pretext.perceptual.losses import build_perceptual
from pretext.perceptual.networks import IMAGENET_MEAN, IMAGENET_SD
from pretext.training.device import Compute
from pretext.training.optim import build_optimizer

PART, UNIT = "loss", "images"
SIZE, BATCH, SECONDS = 96, 128, 2.0
BLURS = {"sigma 4, cut at 4, symmetric": (4.0, 4.0, "symmetric"), "sigma 3, cut at 1, zero": (3.0, 1.0, "zero")}
NETWORKS, LAYER, WIDTH = ("squeezenet1_1", "vgg16"), "2", 0.25
NETWORK_BATCH = {"cpu": 32, "cuda": 128}
TOLERANCE = 1e-5  # of a loss, and of the norm of its gradient
# a value within rounding of zero, or of its neighbour in a pool, passes its gradient on or not
NETWORK_TOLERANCE = 2e-3

Loss = Callable[[Tensor, Tensor], Tensor]


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `loss`: PSE, batch 128, forward and backward; an autoencoder's step with a perceptual loss."""
    yield from _blurred(compute)
    for name in NETWORKS:
        yield from _perceptual(name, compute)


def convolved_pse(prediction: Tensor, target: Tensor, *, sigma: float, truncate: float, padding: str) -> Tensor:
    """PSE the plain way: pad the residual, blur its columns and rows by grouped convolutions, square, mean."""
    channels = prediction.shape[1]
    weight = torch.as_tensor(gaussian_kernel(sigma, truncate), dtype=torch.float32, device=prediction.device)
    radius, weight = len(weight) // 2, weight.expand(channels, 1, -1)
    residual = (prediction - target).abs()
    if padding == "symmetric":  # torch's "reflect" leaves the border out; half-sample mirroring repeats it
        residual = torch.cat([residual[..., :radius].flip(-1), residual, residual[..., -radius:].flip(-1)], -1)
        residual = torch.cat([residual[..., :radius, :].flip(-2), residual, residual[..., -radius:, :].flip(-2)], -2)
    else:
        residual = F.pad(residual, (radius,) * 4)
    residual = F.conv2d(residual, weight[..., None, :], groups=channels)
    return F.conv2d(residual, weight[..., :, None], groups=channels).square().mean()


def _blurred(compute: Compute) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, BATCH, 3, SIZE, SIZE, generator=generator).to(compute.device)
    prediction.requires_grad_()

    def own(sigma: float, truncate: float, padding: str) -> Loss:
        return lambda p, t: pse(p, t, sigma=sigma, truncate=truncate, padding=padding)  # type: ignore[arg-type]

    def plain(sigma: float, truncate: float, padding: str) -> Loss:
        return lambda p, t: convolved_pse(p, t, sigma=sigma, truncate=truncate, padding=padding)

    def backward(loss: Loss) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(prediction, target), prediction)

    for name, blur in BLURS.items():
        check_alike(own(*blur), plain(*blur), prediction, target)
        ours = Contender(f"PSE, {name}, forward and backward", backward(own(*blur)), BATCH)
        rivals = {"grouped separable convolutions": plain(*blur), "MSE": mse}
        # At the least, both images are read and the gradient is written.
        yield from race(ours, *(Contender(what, backward(loss), BATCH) for what, loss in rivals.items()), part=PART, unit=UNIT,
                        device=compute.device, seconds=SECONDS, bytes_each=3 * 4 * 3 * SIZE**2)  # fmt: skip


def check_alike(
    ours: Loss, other: Loss, prediction: Tensor, target: Tensor, gradient_tolerance: float = TOLERANCE
) -> None:
    """AssertionError unless two losses agree in value and gradient."""
    (own, own_gradient), (value, gradient) = (
        (loss.detach(), torch.autograd.grad(loss, prediction)[0]) for loss in (ours(prediction, target), other(prediction, target))
    )  # fmt: skip
    assert abs(own / value - 1) < TOLERANCE, (float(own), float(value))
    assert (own_gradient - gradient).norm() < gradient_tolerance * gradient.norm()


def _perceptual(name: str, compute: Compute) -> list[Row]:
    batch = NETWORK_BATCH[compute.device.type]
    generator = torch.Generator().manual_seed(0)
    image, other = torch.rand(2, batch, 3, SIZE, SIZE, generator=generator).to(compute.device)
    image = image.to(memory_format=torch.channels_last)
    loss = build_perceptual(loss_network=name, loss_network_weights="random", layer=(LAYER,), offline=True)
    plain = PlainNetwork(name, loss.network.facts["nodes"])
    for network in (loss, plain):
        network.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    check_alike(loss, lambda p, t: F.mse_loss(plain(p), plain(t)), other.requires_grad_(), image,
                NETWORK_TOLERANCE)  # fmt: skip
    step, least = _step(loss, image, compute), _step(MSELoss(), image, compute)
    own, passes = _passes(lambda image01_BCHW: loss.network(image01_BCHW)[0], image), _passes(plain, image)
    return race(
        Contender(f"autoencoder's step, perceptual loss, {name} layer {LAYER}", step, batch),
        Contender("step with MSE, then the loss network forward twice and backward once", lambda: (least(), own()), batch, 1.0),
        Contender("the same with torchvision's network, cut there", lambda: (least(), passes()), batch),
        part=PART, unit=UNIT, device=compute.device, seconds=3 * SECONDS,
        note="the sums leave out the distance itself; from process to process these ratios move by 3 %",
    )  # fmt: skip


class PlainNetwork(nn.Module):
    """A network as torchvision cuts it, behind its normalisation, with the weights of `build_network` and seed 0."""

    def __init__(self, name: str, nodes: Sequence[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        model = get_model(name, weights=None).eval().requires_grad_(False)
        (node,) = nodes
        self.graph = create_feature_extractor(model, {node: "feature"}).eval()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_SD)

    def forward(self, image01_BCHW: Tensor) -> Tensor:
        feature_BCHW: Tensor = self.graph(self.normalize(image01_BCHW))["feature"]
        return feature_BCHW


def _step(loss: nn.Module, image01_BCHW: Tensor, compute: Compute) -> Callable[[], object]:
    """One update of a narrow autoencoder as a training makes it."""
    torch.manual_seed(0)
    row = ENCODERS["cnn"]
    encoder = row.load()(image_size=SIZE, **{**row.reads, "width": WIDTH})
    network = nn.Sequential(encoder, build_decoder_for(encoder, width=WIDTH))
    network.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer("adam", network.parameters(), lr=1e-3, weight_decay=0.0)

    def update() -> None:
        optimizer.zero_grad()
        with compute.autocast():
            value = loss(network(image01_BCHW), image01_BCHW)
        value.backward()
        optimizer.step()

    return update


def _passes(network: Callable[[Tensor], Tensor], image01_BCHW: Tensor) -> Callable[[], object]:
    """What such a loss does beside the step and the distance: its network forward on both images, and backward on one."""

    def run() -> None:
        with torch.no_grad():
            network(image01_BCHW)
        feature_BCHW = network(image01_BCHW.detach().requires_grad_())
        feature_BCHW.backward(torch.ones_like(feature_BCHW))

    return run
