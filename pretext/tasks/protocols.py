"""What each fine-tuning protocol does to the encoder, as facts that the stage reads."""

from __future__ import annotations

from dataclasses import dataclass

from pretext.encoders.base import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an encoder is treated under a head.

    Args:
        weights: "trained" from the checkpoint on, "fixed" at the checkpoint, or "new" (trained from initialisation).
        norm: Batch norm while training: "train" (batch statistics, running averages adapt), "eval" (running averages
            fixed), or "instance" (each image normalised by its own statistics, also when judged).
        static: Features are computed once even where images are augmented: every epoch sees the same augmented copy.
        standardize: Features computed once are brought to mean 0 and sd 1 before the head is trained on them.
        layer: The encoder's layer that the head is on, flattened; "code" is the one that a decoder starts from.
        note: What a reader of the result must know.
    """

    weights: str
    norm: str
    static: bool = False
    standardize: bool = False
    layer: str = "latent"
    note: str = ""

    def layer_in(self, encoder: Encoder) -> str:
        """The layer's own name in an encoder, which need not have it."""
        return encoder.code_layer if self.layer == "code" else self.layer


FULL = Protocol(weights="trained", norm="train")
FROZEN = Protocol(weights="fixed", norm="eval", standardize=True)
SCRATCH = Protocol(weights="new", norm="train",
                   note="Supervised control: the encoder starts from new weights; only its shape is the run's.")  # fmt: skip
# Both as in every committed version of Golmakani's downstream script, whose forward pass runs under no-grad.
AS_CODED_FT = Protocol(
    weights="fixed", norm="train",
    note="The slides call this fine-tuning, but the encoder's weights never move; only its batch norm adapts.",
)  # fmt: skip
AS_CODED_FROZEN = Protocol(
    weights="fixed", norm="instance", static=True,
    note="As the slides' code: features once from one augmented copy, each image normalised by its own statistics.",
)  # fmt: skip
# As asbudhkar/LeProject and its branch dae, but for when they stop.
STUDENT = Protocol(
    weights="trained", norm="train", layer="logits",
    note="As the student project: the head is on the logits of every place. The project stopped when the validation top-1 "
         "fell; here patience watches the held-out loss.",
)  # fmt: skip
STUDENT_DAE = Protocol(
    weights="trained", norm="eval", layer="code",
    note="As the student project's denoising baseline: the head is on the whole code, and batch norm keeps the averages of "
         "pretraining while all weights are trained.",
)  # fmt: skip
