"""Draws learning-rate schedules: the rate of every step, exactly as train.py would use it.

    python scripts/draw_schedules.py                   step, exponential, cosine, plateau, from a rate of 0.1
    python scripts/draw_schedules.py scheduler=step,exponential scheduler.gamma=0.5 optimizer.lr=0.1
    python scripts/draw_schedules.py scheduler=all trainer.max_epochs=50
    python scripts/draw_schedules.py init=xavier scheduler=cosine scheduler.warmup=5 data=mnist1d

scheduler=a,b,c or scheduler=all chooses; scheduler.KEY=VALUE goes to those that have the key; whatever
else train.py takes is taken here. A schedule that follows a metric is drawn on one that never improves.
scale=log draws a logarithmic axis, figure=PATH says where the picture goes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store.request import Request
from sweepwise.tools import figure, scripting

if TYPE_CHECKING:
    from numpy.typing import NDArray


CONF = Path(__file__).parents[1] / "conf"
FOUR = "step,exponential,cosine,plateau"


class Drawn(NamedTuple):
    """A schedule to draw.

    Attributes:
        rates: (steps,)
        steps_per_epoch: how many steps make an epoch.
        follows: the metric it depends on; '' if it does on none.
    """

    rates: "NDArray[Any]"
    steps_per_epoch: int
    follows: str


def rates(request: Request) -> Drawn:
    """The rates of a run, if a metric that it follows never changes."""
    from sweepwise.run import build

    parts = build(request)
    schedule, steps_per_epoch = parts.schedule, parts.data.steps_per_epoch
    follows = schedule.metric or ""
    every = parts.settings.validate_every
    for epoch in range(every, -(-parts.steps // steps_per_epoch) + 1, every):
        schedule.observe(epoch * steps_per_epoch, 1.0)
    return Drawn(schedule.rates.copy(), steps_per_epoch, follows)


def draw(drawn: Mapping[str, Drawn], scale: str, path: Path) -> None:
    """One panel for each schedule."""
    import numpy as np

    rows, columns = scripting.grid(len(drawn))
    picture = figure.new(rows, columns, width=4.8, height=3)
    for place, (name, (values, steps_per_epoch, follows)) in enumerate(drawn.items(), 1):
        axes = picture.add_subplot(rows, columns, place)
        epochs = np.arange(len(values) + 1) / steps_per_epoch
        axes.stairs(values, epochs, baseline=None, linewidth=1.5)
        constant = figure.label(f" ({follows} constant)", f"（{follows} 不变时）") if follows else ""
        axes.set_title(name + constant)
        axes.set_xlabel(figure.label("epoch", "轮次 (epoch)"))
        axes.set_ylabel(figure.label("learning rate", "学习率"))
        axes.set_yscale(scale)
        if scale == "linear":
            axes.set_ylim(bottom=0)
        axes.grid(True, alpha=0.3)
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(
        arguments, figure="outputs/figures/draw_schedules.png", scheduler="", scale="linear"
    )
    if own["scale"] not in ("linear", "log"):
        raise UsageError([f"scale={own['scale']}: must be linear or log"])
    if not own["scheduler"]:
        own["scheduler"] = FOUR
        overrides = ["optimizer.lr=0.1", *overrides]
    names = scripting.options(CONF, "scheduler", own["scheduler"])
    every = own["scheduler"] == "all"
    compose = partial(cli.composed, conf=CONF)
    requests = scripting.beside_each_other(compose, "scheduler", names, overrides, leave_out=every)
    drawn = scripting.each(requests, rates, leave_out=every)
    for name, (values, _, _) in drawn.items():
        print(f"{name:<20}first {values[0]:.3g}   highest {values.max():.3g}   last {values[-1]:.3g}")
    draw(drawn, own["scale"], Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
