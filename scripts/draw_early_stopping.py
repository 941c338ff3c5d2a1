"""Draws early stopping: the curve that is watched, its best epoch and where the training stops.

    python scripts/draw_early_stopping.py                              a valley with its floor at epoch 20
    python scripts/draw_early_stopping.py early_stop.patience=3 early_stop.min_delta=0.01
    python scripts/draw_early_stopping.py 'run=outputs/early_stopping/early_stop.patience=7*seed=0*'

Without run= the rule that early_stop.KEY=VALUE describes watches (epoch - 20)^2 / 400 + 0.5. With
run=FOLDER a training that has ended is drawn; a pattern will do if one folder fits. figure=PATH says
where the picture goes.
"""

import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store import history, record
from sweepwise.tools import figure, scripting

CONF = Path(__file__).parents[1] / "conf"
EPOCHS = 60


class Curve(NamedTuple):
    """A metric that was watched.

    Attributes:
        metric: its tag.
        epochs: that were validated.
        values: of the metric.
        ahead: values after the stop, which the training never saw; empty of a real run.
        training: the same metric of the training part; empty if it was not measured.
        best: epoch whose weights are restored.
        stopped: last epoch that was trained.
        why: what stopped it.
    """

    metric: str
    epochs: Sequence[int]
    values: Sequence[float]
    ahead: Sequence[float]
    training: Sequence[float]
    best: int
    stopped: int
    why: str


def valley(overrides: Sequence[str]) -> Curve:
    """What a rule makes of a loss that falls to epoch 20 and then rises."""
    from sweepwise.early_stop import Best
    from sweepwise.run import bind_all

    config = cli.composed(["early_stop.patience=7", *overrides], CONF).config
    rule = bind_all(config)["early_stop"].target()
    best = Best(rule.metric, rule.mode)
    losses = [(epoch - 20) ** 2 / 400 + 0.5 for epoch in range(EPOCHS)]
    why, epoch = "", 0
    for epoch, loss in enumerate(losses):
        best.update(epoch, epoch, loss)
        if why := rule.update(epoch, loss):
            break
    seen = epoch + 1
    reason = why or "the last epoch"
    return Curve(rule.metric, range(seen), losses[:seen], losses[epoch:], [], best.epoch, epoch, reason)


def trained(pattern: str) -> Curve:
    """A run that has ended.

    Args:
        pattern: its folder, or a pattern that fits this folder only.

    Raises:
        UsageError: no folder or several fit, or it is not the folder of a run that has ended.
    """
    folders = sorted(glob.glob(pattern))
    if len(folders) != 1:
        named = f": {', '.join(folders[:3])} ..." if folders else ""
        raise UsageError([f"run={pattern}: must match one folder, but {len(folders)} match{named}"])
    folder = Path(folders[0])
    known = record.read(folder)
    if "stopped" not in known or known["best"]["epoch"] < 0:
        raise UsageError([f"run={folder}: must be the folder of a run that has ended and has a best epoch"])
    if known["best"]["metric"] is None:
        raise UsageError([f"run={folder}: must have a metric that chose its best weights, not the last ones"])
    lines = history.history(folder)
    metric = known["best"]["metric"]
    training = [line.get(metric.replace("val/", "train/"), math.nan) for line in lines]
    return Curve(
        metric,
        [line["epoch"] for line in lines],
        [line[metric] for line in lines],
        [],
        training if metric.startswith("val/") else [],
        known["best"]["epoch"],
        known["stopped"]["epoch"],
        known["stopped"]["why"],
    )


def draw(curve: Curve, path: Path) -> None:
    """The curve with its two marks."""
    picture = figure.new(width=7, height=4)
    axes = picture.add_subplot()
    if curve.training:
        label = curve.metric.replace("val/", "train/")
        axes.plot(curve.epochs, curve.training, color="tab:gray", linewidth=1, label=label)
    axes.plot(curve.epochs, curve.values, label=curve.metric)
    if curve.ahead:
        ahead = range(curve.stopped, curve.stopped + len(curve.ahead))
        label = figure.label("never trained", "不再训练的部分")
        axes.plot(ahead, curve.ahead, color="tab:blue", linestyle=":", label=label)
    at = dict(zip(curve.epochs, curve.values, strict=True))
    best = figure.label(f"best: epoch {curve.best}, restored", f"最佳：第 {curve.best} 轮，恢复其权重")
    stop = figure.label(f"stopped after epoch {curve.stopped}", f"第 {curve.stopped} 轮后停止")
    axes.plot(curve.best, at[curve.best], "o", color="tab:green", markersize=9, label=best)
    axes.axvline(curve.stopped, color="tab:red", linestyle="--", label=stop)
    axes.set_xlabel(figure.label("epoch (from 0)", "轮次（从 0 起）"))
    axes.set_ylabel(curve.metric)
    axes.set_title(figure.label(curve.why, ""), fontsize=10)  # in Chinese the legend says it
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(arguments, figure="outputs/figures/draw_early_stopping.png", run="")
    if own["run"] and overrides:
        raise UsageError([f"{overrides[0]}: does not go with run=, which draws a training as it was"])
    curve = trained(own["run"]) if own["run"] else valley(overrides)
    print(f"best          epoch {curve.best}")
    print(f"stopped       after epoch {curve.stopped}: {curve.why}")
    draw(curve, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
