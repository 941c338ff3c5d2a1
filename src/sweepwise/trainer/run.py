"""One run in the training loop: schedule and early stopping, its metrics so far, how it ended."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweepwise.early_stop import Best, EarlyStop
from sweepwise.learner import Watched
from sweepwise.scheduler import Schedule
from sweepwise.trainer.protocols import Checkpoints, Monitor

START: Mapping[str, Any] = {"step": 0, "epoch": 0, "history": [], "gradient_seen": "none", "meter": None}


@dataclass
class Run:
    """One run of a group: its schedule and rules, monitor and checkpoints, metrics and status.

    `status` is 'running' until it ends as 'finished', 'stopped early', 'diverged', 'pruned' or 'interrupted'.
    Whatever fails before it is `done`, its best weights measured unless it pauses, ends it in another way.
    `pause_after` is what `Settings.pauses_after` says.
    Schedule and early stopping follow from the history of metrics alone, so they need no saved state.
    """

    schedule: Schedule
    early_stop: EarlyStop
    order_seed: int
    monitor: Monitor
    checkpoints: Checkpoints
    pause_after: int | None = None
    best: Best = field(init=False)
    status: str = "running"
    reason: str = ""
    done: bool = False
    epoch: int = -1
    step: int = -1
    gradient_seen: str = "none"
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    final: dict[str, dict[str, Any]] = field(default_factory=dict)
    resume_from: Mapping[str, Any] = field(default_factory=lambda: START)

    def __post_init__(self) -> None:
        self.best = Best(self.early_stop.metric, self.early_stop.mode)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; the learner is restored separately."""
        self.resume_from = {key: value for key, value in state.items() if key != "learner"}  # which is large
        self.gradient_seen = state["gradient_seen"]
        for values in state["history"]:
            tagged = {tag: value for tag, value in values.items() if tag not in ("epoch", "step")}
            self.record_epoch(values["step"] + 1, values["epoch"], tagged)

    def state_dict(self, step: int, epoch: int, meter: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint needs of the run: texts, numbers and tensors on the CPU.

        Args:
            step: the next one.
            epoch: the epoch of that step.
            meter: the metrics of that epoch so far.
        """
        return {
            "step": step,
            "epoch": epoch,
            "history": list(self.history),  # a thread may still write it while the list grows
            "gradient_seen": self.gradient_seen,
            "meter": meter,
            "log": self.monitor.mark(),
        }

    def record_epoch(self, step: int, epoch: int, values: Mapping[str, float]) -> bool:
        """Takes an epoch's metrics; updates learning rate, best and status. Returns whether it is the best.

        Args:
            step: the next one.
            epoch: the one that has ended.
            values: metrics by tag.
        """
        self.epoch, self.step = epoch, step - 1
        self.metrics |= values
        self.history.append({"epoch": epoch, "step": step - 1, **values})
        if not math.isfinite(values.get("val/loss", 0.0)):
            self.end("diverged", f"val/loss is {values['val/loss']} after step {step - 1}")
            return False
        if self.schedule.metric is not None and self.schedule.metric in values:
            self.schedule.observe(step, values[self.schedule.metric])
        if self.best.metric is not None and self.best.metric not in values:
            return False
        value = math.nan if self.best.metric is None else values[self.best.metric]
        improved = self.best.update(epoch, step - 1, value)
        if improved:
            self.best_metrics = {tag: value for tag, value in values.items() if tag.startswith("val/")}
        why = self.early_stop.update(epoch, value)
        if why and step < len(self.schedule.rates):
            self.end("stopped early", why)
        return improved

    def pause(self) -> None:
        """Ends the run as 'pruned' if it has come to where it pauses, and not to its last step."""
        steps = len(self.schedule.rates)
        if self.pause_after is None or self.status != "running" or self.step + 1 >= steps:
            return
        if (epochs := self.epoch + 1) >= self.pause_after:
            of = math.ceil(steps * epochs / (self.step + 1))
            self.end("pruned", f"pruned at epoch {self.epoch}, after {epochs} of {of} epoch{'s' * (of != 1)}")

    def record_step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Gives a watched step to the monitor, and remembers its gradient norm."""
        self.monitor.step(step, epoch, rate, watched)
        if math.isfinite(watched.gradient_norm):
            self.gradient_seen = f"{watched.gradient_norm:.4g} at step {step}"

    def end(self, status: str, reason: str = "") -> None:
        """Ends the run, unless its last work is done already."""
        if not self.done:
            self.status, self.reason = status, reason

    def outcome(self) -> dict[str, Any]:
        """What the record of an ended run has from the training: of its best weights, and of its end."""
        tested = {tag: value for tag, value in self.metrics.items() if tag.startswith("test/")}
        best = {
            "metric": self.best.metric,
            "value": self.best.value,
            "epoch": self.best.epoch,
            "step": self.best.step,
            "metrics": self.best_metrics | tested,
            "measured": self.final,
        }
        return {
            "best": best,
            "stopped": {"epoch": self.epoch, "step": self.step, "why": self.reason or "the last epoch"},
            "last": {tag: value for tag, value in self.metrics.items() if tag not in tested},
        }
