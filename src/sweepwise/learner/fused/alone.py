"""The learner of a run that is trained alone: as a group of one, where its passes are written by hand."""

from torch import Tensor

from sweepwise.learner.contract import Learner
from sweepwise.learner.fused.learner import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.learner.fused.ways import WAYS, ByHand
from sweepwise.learner.known import changes_buffers_only
from sweepwise.learner.module import ModuleLearner


def alone(learner: ModuleLearner, examples: Tensor, fused: bool | None = None) -> tuple[Learner, bool]:
    """What takes the steps of a run, and whether it rounds as a group of runs does.

    A model of known layers on a CPU is trained as a group of one where that is faster, as it has only layers
    whose passes are written by hand; it has the bits of a group then. It is compared with the model's own
    passes before it is used. A person's own layers run as they are: they may do anything in a pass.

    Args:
        learner: of the run.
        examples: inputs of a batch, for the comparison.
        fused: as the run has been trained so far; None: it begins.
    """
    known = learner.flat.values.device.type == "cpu" and changes_buffers_only(learner.model)
    if not learner.whole or fused is False or (fused is None and not known):
        return learner, False
    try:
        return FusedLearner([learner], examples, ways=WAYS if fused else (ByHand,)), True
    except Unfusable:  # of one that has been: on this device, though not on the one where it was tried
        return learner, False
