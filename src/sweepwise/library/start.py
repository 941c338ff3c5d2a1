"""How parts stand before the first step, so that each `fit` of them begins there."""

from weakref import WeakKeyDictionary

from sweepwise.errors import UsageError
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.without_trace import way_back
from sweepwise.library.given import fingerprint
from sweepwise.parts import Parts

_starts: WeakKeyDictionary[ModuleLearner, "Start"] = WeakKeyDictionary()


class Start:
    """The start of a run, kept when it begins for the first time.

    Args:
        parts: of the run, which nothing has trained.

    Attributes:
        fingerprint: of the weights.
    """

    def __init__(self, parts: Parts) -> None:
        self.fingerprint = fingerprint(parts.model)
        self._changing = [parts.schedule, parts.early_stop, *parts.regularizers]
        outside = [parts.learner, parts.learner.flat, parts.data]
        self._back = way_back(parts.model, self._changing, outside)
        self._used = False

    def bring_back(self, parts: Parts) -> None:
        """Brings parts that were trained back to this start.

        Raises:
            UsageError: one of them keeps its state where it cannot be reached.
        """
        if self._used:
            for one in self._changing:
                if not hasattr(one, "__dict__"):
                    kind = type(one).__name__
                    rule = "cannot be brought back to its start, as it has __slots__; build the parts again"
                    raise UsageError([f"parts: {kind} {rule}"])
            self._back()
            make = parts.make_learner
            ModuleLearner.__init__(parts.learner, *make.args, **make.keywords)
        self._used = True


def start_of(parts: Parts) -> Start:
    """The start of parts: as they are now, where no fit has begun with them."""
    if parts.learner not in _starts:
        _starts[parts.learner] = Start(parts)
    return _starts[parts.learner]
