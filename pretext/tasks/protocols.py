"""What each fine-tuning protocol does to the encoder, as facts that the stage reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an encoder is treated under a head.

    Args:
        weights: "trained" from the checkpoint on, "fixed" at the checkpoint, or "new" (trained from initialisation).
        norm: Batch norm while training: "train" (batch statistics, running averages adapt), "eval" (running averages
            fixed), or "instance" (each image normalised by its own statistics, also when judged).
        static: Features are computed once even where images are augmented: every epoch sees the same augmented copy.
        standardize: Features computed once are brought to mean 0 and sd 1 before the head is trained on them.
        note: What a reader of the result must know.
    """

    weights: str
    norm: str
    static: bool = False
    standardize: bool = False
    note: str = ""


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
