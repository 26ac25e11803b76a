"""Published weights: found where they lie, or downloaded, checked, and cut to the tensors that are needed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from pretext.artifacts.atomic import file_sha256
from pretext.artifacts.checkpoint import read_tensors
from pretext.datasets.download import Progress, fetch
from pretext.errors import AbsentWeightsError, ArtifactError, ConfigError

T = TypeVar("T")

LPIPS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
# The name in the file, its SHA-256, and how many channels each compared layer has.
LPIPS_FILES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "alexnet": ("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", (64, 192, 384, 256, 256)),
    "squeezenet1_1": (
        "squeeze",
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        (64, 128, 256, 384, 384, 512, 512),
    ),
    "vgg16": ("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", (64, 128, 256, 512, 512)),
}
# Files from before 2018 name the parts of DenseNet's layers norm.1 for norm1.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def load_weights(name: str, needed: Mapping[str, Tensor], *, weights_dir: Path, offline: bool,
                 progress: Progress | None = None) -> tuple[dict[str, Tensor], str]:  # fmt: skip
    """The published weights of a network of torchvision, trained on ImageNet-1K (IMAGENET1K_V1).

    `weights_dir` may hold torchvision's own file, `NAME.safetensors` or `NAME-features.safetensors`, in this order of
    preference; in the latter two, numbers in half precision are made float32. If it holds none, torchvision's file is
    downloaded there.

    Args:
        name: torchvision's name of the network.
        needed: Tensors by name, of the shapes that are wanted; what else a file holds is left out.
        weights_dir: The folder of published weights.
        offline: Whether downloads are forbidden.
        progress: Called with (bytes so far, bytes in all or None) during a download.

    Returns:
        Tensors with the names of `needed`, on the CPU, and the SHA-256 of their file.

    Raises:
        ArtifactError: If the file is broken, or lacks tensors, or has them in other shapes.
        DataError: If there is no file and none can be downloaded, or torchvision's own has another checksum.
    """
    url, checksum = _published(name)
    file = _find(url, (f"{name}.safetensors", f"{name}-features.safetensors"), checksum, weights_dir, offline, progress)
    found = _read(file)
    if name.startswith("densenet"):
        found = {OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in found.items()}
    for key in needed.keys() - found.keys():
        if key.endswith(".num_batches_tracked"):  # a count that old files lack, and that nothing reads here
            found[key] = torch.zeros((), dtype=torch.long)
    return _pick(file, found, needed), file_sha256(file)


def unless_absent(build: Callable[[bool], T]) -> T | None:
    """Build what needs published weights from files that are here; None where one would have to be downloaded first.

    A stage asks so before it knows whether there is anything to do: finished work must not need them again.

    Args:
        build: Called with whether downloads are forbidden.
    """
    try:
        return build(True)
    except AbsentWeightsError:
        return None


def is_published_file(name: str, fingerprint: str) -> bool:
    """Whether a file of this SHA-256 ("sha256:...") is torchvision's own of the network's published weights."""
    return fingerprint.startswith(_published(name)[1])


def _published(name: str) -> tuple[str, str]:
    """The address of a network's published weights, and the first digits of their checksum."""
    url = get_model_weights(name)["IMAGENET1K_V1"].url
    # torchvision's names end in them: vgg16-397923af.pth
    return url, "sha256:" + url.rpartition("-")[2].removesuffix(".pth")


def lpips_weights(network: str, *, weights_dir: Path = Path("weights"), offline: bool = False,
                  progress: Progress | None = None) -> list[Tensor]:  # fmt: skip
    """The published linear weights of LPIPS, version 0.1: how much each channel counts.

    `weights_dir` may hold `lpips-alex-v0.1.safetensors` or `alex.pth`; of the others, squeeze and vgg. If it holds
    neither, the latter is downloaded there: a few kB.

    Args:
        network: "alexnet", "squeezenet1_1" or "vgg16".
        weights_dir: The folder of published weights.
        offline: Whether downloads are forbidden.
        progress: Called with (bytes so far, bytes in all or None) during a download.

    Returns:
        weight_C for each layer of `pretext.perceptual.networks.default_taps`, float32, none negative. They were fitted
        to torchvision's own weights of the network.

    Raises:
        ConfigError: If none were published for this network.
        ArtifactError: If the file is broken, or lacks tensors, or has them in other shapes.
        DataError: If there is no file and none can be downloaded, or the published one has another checksum.

    Reference: Zhang, Isola, Efros, Shechtman, Wang 2018, arXiv:1801.03924.
    """
    if network not in LPIPS_FILES:
        raise ConfigError(f"LPIPS weights were published for {', '.join(LPIPS_FILES)}, not for {network}",
                          hint="--channel-weights unit counts all channels alike")  # fmt: skip
    short, digest, channels = LPIPS_FILES[network]
    file = _find(f"{LPIPS_URL}/{short}.pth", (f"lpips-{short}-v0.1.safetensors",), f"sha256:{digest}", weights_dir,
                 offline, progress)  # fmt: skip
    needed = {f"lin{layer}.model.1.weight": torch.empty(1, count, 1, 1) for layer, count in enumerate(channels)}
    return [weight.flatten() for weight in _pick(file, _read(file), needed).values()]


def _find(url: str, others: tuple[str, ...], checksum: str, folder: Path, offline: bool,
          progress: Progress | None) -> Path:  # fmt: skip
    """The file of that address or one of the other names, whichever is in the folder; else it is downloaded."""
    published = folder / url.rpartition("/")[2]
    if not published.exists():
        for name in others:
            if (folder / name).exists():
                return folder / name
        if offline:
            hint = f"put {url} ({checksum}) there, or the same tensors as {folder / others[0]}"
            raise AbsentWeightsError(f"{published} is missing, and downloads are forbidden by --offline", hint=hint)
        folder.mkdir(parents=True, exist_ok=True)
    return fetch(url, published, checksum=checksum, offline=offline, progress=progress)


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                # torch.save never compresses; a few kB that do so could become more than the memory holds
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("it is compressed")
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        raise ArtifactError(f"{file} can't be read as weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ArtifactError(f"{file} holds something else than weights")
    return found


def _pick(file: Path, found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The needed tensors, in the order and floating type of `needed`."""
    missing = [key for key in needed if key not in found]
    misshapen = [f"{key} is {tuple(found[key].shape)}, not {tuple(tensor.shape)}" for key, tensor in needed.items()
                 if key in found and found[key].shape != tensor.shape]  # fmt: skip
    if missing or misshapen:
        parts = [f"missing: {', '.join(missing[:5])}"] if missing else []
        parts += [f"wrong shape: {'; '.join(misshapen[:5])}"] if misshapen else []
        raise ArtifactError(f"{file} does not hold the needed weights: {'; '.join(parts)}")
    # a copy, so that the rest of the file's tensors can be forgotten
    return {key: found[key].detach().to(tensor.dtype, copy=True) for key, tensor in needed.items()}
