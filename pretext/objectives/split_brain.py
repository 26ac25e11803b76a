"""Predicting some channels of an image from others: split-brain autoencoders and their ablations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pretext.color import downscale, lab_to_rgb, marginal_entropy, rebalance_weights, unit_to_lab
from pretext.encoders.split import SplitNet
from pretext.losses import BinCrossEntropy, bin_cross_entropy, half_squared_error
from pretext.objectives.base import Objective, Setting, View
from pretext.objectives.color_task import SHARED, WIRINGS, ColorTask
from pretext.objectives.pictures import image_table

ANNEALED = 0.38  # temperature between mean and mode, arXiv:1603.08511 sec. 2.3
MODE = 0.0
NEUTRAL = {"lab": (50 / 100, 87 / 186, 108 / 203), "rgb": (0.5, 0.5, 0.5)}  # middle grey as a network's input


class SplitBrain(Objective):
    """Networks that each see one group of channels and predict the other, or ablations of that.

    Args:
        encoder: Has a logits layer of the shape that `network_shape` states.
        loss: `BinCrossEntropy` or `HalfSquaredError`.
        task: The colour targets.
        wiring: A key of `WIRINGS`.

    Raises:
        ValueError: If the encoder's grid is not the targets', or bins that differ from image to image meet regression.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842.
    """

    encoder: SplitNet
    picture_name = "colorizations"

    def __init__(self, encoder: SplitNet, loss: nn.Module, task: ColorTask, wiring: str) -> None:
        super().__init__()
        self.is_classifier = isinstance(loss, BinCrossEntropy)
        if encoder.output_grid != task.size:
            raise ValueError(f"target size must be {encoder.output_grid}, the grid of {encoder.name} at "
                             f"{encoder.image_size} px, got {task.size}")  # fmt: skip
        if task.quantizer.per_image and not self.is_classifier:
            raise ValueError(
                f"color space must have the same bins for every image for a regression, got {task.quantizer.name}"
            )
        self.encoder, self.loss, self.task, self.wiring = encoder, loss, task, wiring
        self.heads = {_head_name(task, wiring, number): head for number, head in enumerate(WIRINGS[wiring])}
        uniform = loss.rebalance if isinstance(loss, BinCrossEntropy) else 1.0
        for group in (0, 1):
            weight_K = rebalance_weights(torch.from_numpy(task.count_K[group]), uniform).float()
            self.register_buffer(f"weight_{group}", None if uniform == 1 else weight_K, persistent=False)

    def forward(self, input01_BCHW: Tensor) -> dict[str, Tensor]:
        """Each head's logits or predicted channels, maps on the targets' grid."""
        if self.wiring not in SHARED:
            return dict(zip(self.heads, self.encoder.encode_parts(input01_BCHW, "logits"), strict=True))
        # One batch of all views, so that batch norm sees in training what it will judge by.
        seen = torch.cat([self._blank(input01_BCHW, predicted) for _, predicted in self.heads.values()])
        outputs = self.encoder.encode_parts(seen, "logits")[0].chunk(len(self.heads))
        sizes = [self._size(predicted) for _, predicted in self.heads.values()]
        return {name: output.split(sizes, 1)[number]
                for number, (name, output) in enumerate(zip(self.heads, outputs, strict=True))}  # fmt: skip

    def loss_of(self, view: View) -> Tensor:
        return torch.stack(list(self._terms(view, weighted=True).values())).sum()

    def terms_of(self, view: View) -> dict[str, Tensor]:
        return self._terms(view, weighted=False)

    def constant_losses(self) -> dict[str, float]:
        if self.is_classifier:
            return {name: marginal_entropy(torch.from_numpy(self.task.count_K[predicted]))
                    for name, (_, predicted) in self.heads.items()}  # fmt: skip
        return {name: 0.5 * float(self.task.variance_C[self.task.quantizer.channels(predicted)].sum())
                for name, (_, predicted) in self.heads.items()}  # fmt: skip

    def _terms(self, view: View, *, weighted: bool) -> dict[str, Tensor]:
        outputs = self(view.input01_BCHW)
        if not self.is_classifier:
            small = downscale(view.input01_BCHW, self.task.size, border=self.task.border)
            return {name: half_squared_error(outputs[name], small[:, self.task.quantizer.channels(predicted)])
                    for name, (_, predicted) in self.heads.items()}  # fmt: skip
        if view.target_BGHW is None:
            raise ValueError("target must be given for a classification of colours, got None")
        return {name: bin_cross_entropy(outputs[name], view.target_BGHW[:, predicted],
                                        getattr(self, f"weight_{predicted}") if weighted else None)
                for name, (_, predicted) in self.heads.items()}  # fmt: skip

    def _size(self, group: int) -> int:
        return self.task.quantizer.num_bins[group] if self.is_classifier else len(self.task.quantizer.groups[group])

    def _blank(self, input01_BCHW: Tensor, group: int) -> Tensor:
        """The input with a group of channels set to middle grey."""
        channels = self.task.quantizer.channels(group)
        grey_C11 = input01_BCHW.new_tensor(NEUTRAL[self.task.quantizer.image_space])[:, None, None]
        blanked = input01_BCHW.clone(memory_format=torch.preserve_format)
        blanked[:, channels] = grey_C11[channels]
        return blanked

    @torch.no_grad()
    def picture(self, view: View) -> Image.Image:
        """What is seen, what is predicted from it, and the truth; of several heads the first, which predicts colour."""
        name, (_, predicted) = next(iter(self.heads.items()))
        truth = self._natural(view.input01_BCHW.float())
        output = self(view.input01_BCHW)[name].float()
        ranges = self.task.quantizer.ranges(downscale(truth, self.task.size, border=self.task.border))
        rows = {"seen": self._show(self._natural(self._seen(view.input01_BCHW.float(), predicted)))}
        if self.is_classifier:
            for label, temperature in (("predicted, mode", MODE), (f"mean at T={ANNEALED}", ANNEALED)):
                guess = self.task.quantizer.expect(output, predicted, temperature=temperature, range_BC2=ranges)
                rows[label] = self._show(self._with(truth, predicted, guess))
        else:
            small = downscale(view.input01_BCHW.float(), self.task.size, border=self.task.border)
            small[:, self.task.quantizer.channels(predicted)] = output
            guess = self._natural(small)[:, self.task.quantizer.channels(predicted)]
            rows["predicted"] = self._show(self._with(truth, predicted, guess))
        return image_table(rows | {"truth": self._show(truth)})

    def _seen(self, input01_BCHW: Tensor, predicted: int) -> Tensor:
        """The input with the predicted channels blanked; in RGB by what is seen, which is then shown as grey."""
        blanked = self._blank(input01_BCHW, predicted)
        if self.task.quantizer.image_space == "rgb":
            seen = input01_BCHW[:, self.task.quantizer.channels(1 - predicted)].mean(1, keepdim=True)
            blanked[:, self.task.quantizer.channels(predicted)] = seen
        return blanked

    def _with(self, truth_BCHW: Tensor, group: int, small_BcHW: Tensor) -> Tensor:
        """The true image with a group of channels from a small map."""
        image = truth_BCHW.clone()
        image[:, self.task.quantizer.channels(group)] = F.interpolate(small_BcHW, size=image.shape[-1], mode="bilinear")
        return image

    def _natural(self, input01_BCHW: Tensor) -> Tensor:
        return unit_to_lab(input01_BCHW) if self.task.quantizer.image_space == "lab" else input01_BCHW

    def _show(self, natural_BCHW: Tensor) -> Tensor:
        return lab_to_rgb(natural_BCHW) if self.task.quantizer.image_space == "lab" else natural_BCHW


def _head_name(task: ColorTask, wiring: str, number: int) -> str:
    """Such as "L to ab"; the second of two equal ones is numbered."""
    seen, predicted = WIRINGS[wiring][number]
    name = f"{task.quantizer.groups[seen]} to {task.quantizer.groups[predicted]}"
    earlier = WIRINGS[wiring][:number].count((seen, predicted))
    return f"{name} ({earlier + 1})" if earlier else name


def build_split_brain(setting: Setting, *, wiring: str) -> SplitBrain:
    """One of the wirings of `WIRINGS` over the setting's encoder and colour targets."""
    if setting.color is None or setting.loss is None or not isinstance(setting.encoder, SplitNet):
        raise ValueError("colour targets, a loss and a network in parts must be given")
    return SplitBrain(setting.encoder, setting.loss, setting.color, wiring)
