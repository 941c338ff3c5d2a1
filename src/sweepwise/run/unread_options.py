"""Options without effect: read only if another has a certain value, or due only after the training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sweepwise.errors import UsageError


class Reading(NamedTuple):
    """When a target reads an option.

    Attributes:
        group: of the target.
        target: the last name of it.
        option: which is read only then.
        neutral: the value that says nothing, so that it may stand there in any case.
        key: the other option.
        values: of the other option with which it is read; (): any but the empty ones.
    """

    group: str
    target: str
    option: str
    neutral: Any
    key: str
    values: tuple[Any, ...] = ()

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether the option is read, or left at its neutral value."""
        node = config[self.group]
        if str(node.get("_target_")).rpartition(".")[2] != self.target or self.option not in node:
            return True
        if node[self.option] == self.neutral:
            return True
        return node.get(self.key) in self.values if self.values else bool(node.get(self.key))


REFUSED = [
    Reading("model", "mlp", "activation", "relu", "hidden"),
    Reading("model", "mlp", "norm", "none", "hidden"),
    Reading("model", "mlp", "dropout", 0, "hidden"),
    Reading("model", "mlp", "bias", True, "hidden"),
]
PICTURES = ("confusion", "curves")  # of the monitor, drawn of a classification's validation part
NOTED = [
    Reading("init", "kaiming_normal_", "a", 0, "nonlinearity", ("leaky_relu",)),
    Reading("init", "kaiming_uniform_", "a", 0, "nonlinearity", ("leaky_relu",)),
    Reading("optimizer", "SGD", "dampening", 0, "momentum"),
    Reading("scheduler", "CyclicLR", "gamma", 1, "mode", ("exp_range",)),
    Reading("scheduler", "wsd", "end_factor", 0, "decay_fraction"),
]


def refuse_unread(config: Mapping[str, Any]) -> list[str]:
    """Refuses options of layers that a model does not have; returns notes about others without effect.

    Raises:
        UsageError: with every such option.
    """
    refused = [_fault(one, config) for one in REFUSED if not one.fits(config)]
    if refused:
        raise UsageError(refused)
    return [_fault(one, config) for one in NOTED if not one.fits(config)]


def never_due(config: Mapping[str, Any], steps: int, steps_per_epoch: int, *, undrawn: bool) -> list[str]:
    """Notes about checkpoints and pictures that are never due.

    Args:
        config: the run's.
        steps: of the whole training.
        steps_per_epoch: >= 1.
        undrawn: whether it is a classification without a validation part, of which pictures would be drawn.
    """
    totals = {"steps": steps, "epochs": -(-steps // steps_per_epoch)}
    asked = [f"monitor.{key}" for key in PICTURES if undrawn and config["monitor"].get(key)]
    never = [f"{' and '.join(asked)}: nothing is drawn, as there is no validation part"] if asked else []
    return never + [
        f"checkpoint.{unit}={every} never acts: the training has {total}; "
        "the last checkpoint is written in any case"
        for unit, total in totals.items()
        if (every := config["checkpoint"].get(unit, 0)) > total
    ]


def _fault(one: Reading, config: Mapping[str, Any]) -> str:
    node = config[one.group]
    value = str(node[one.option]).lower()
    other = str(node.get(one.key)).replace(" ", "")
    wanted = f"{one.group}.{one.key}={one.values[0]}" if one.values else f"another {one.group}.{one.key}"
    return (
        f"{one.group}.{one.option}={value}: has no effect with {one.group}.{one.key}={other}; "
        f"leave it out, or use {wanted}"
    )
