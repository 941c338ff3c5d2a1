"""Finds a learning rate: trains while the rate grows until the loss diverges.

  python scripts/find_lr.py                             the defaults of train.py
  python scripts/find_lr.py optimizer=sgd init=xavier   any of its overrides
  python scripts/find_lr.py min=1e-5 max=1 steps=200

min=1e-7 max=10 steps=100 are the first and the last rate, between which it
grows by a constant factor, and the number of steps. figure=PATH sets where the
picture goes, which is outputs/figures/find_lr.png else. The run's own data,
model, init, optimizer and regularizer are used, its scheduler and optimizer.lr
are not. No run's folder is touched.

minimum / 10: a tenth of the rate at which the smoothed loss was lowest.
steepest: the rate at which it fell fastest. The smaller of the two is
suggested. valley: half-way down its longest fall.

Source: Smith, Cyclical Learning Rates for Training Neural Networks,
arXiv:1506.01186, section 3.3.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.tools import figure

if TYPE_CHECKING:
    from sweepwise.tools.lr_finder import Curve


CONF = Path(__file__).resolve().parents[1] / "conf"
OWN = {"min": "1e-7", "max": "10", "steps": "100", "figure": "outputs/figures/find_lr.png"}
ROWS, BAR = 14, 40  # of the curve on the terminal


def main(arguments: list[str]) -> None:
    """Runs the test and prints the suggested learning rates."""
    own = OWN | {key: value for key, _, value in (a.partition("=") for a in arguments) if key in OWN}
    overrides = [argument for argument in arguments if argument.partition("=")[0] not in OWN]
    low, high, steps = number(own, "min"), number(own, "max"), number(own, "steps")
    if steps != int(steps):
        raise UsageError([f"steps={own['steps']}: must be a whole number"])
    request = cli.composed(overrides, CONF)

    from sweepwise import run
    from sweepwise.tools.lr_finder import range_test, suggestions

    parts = run.build(request)
    print(
        f"range test    {parts.data.name}, {request.choices['model']}, {request.choices['optimizer']}, batch "
        f"{parts.data.batch_size}, seed {parts.seeds.value}: {steps:g} steps, lr {low:g} to {high:g}"
    )
    try:
        curve = range_test(parts, low, high, int(steps))
        print("\n".join(lines(curve)))
        where = f"at lr {curve.rates[-1]:.2g}: {curve.ended}" if curve.ended else "at the last rate"
        print(f"stopped       {where}")
        suggested = suggestions(curve)
    except ValueError as error:
        raise UsageError([str(error)]) from error
    (rule, rate), *others = suggested.items()
    print(f"suggestion    lr {rate:.2g} ({rule})")
    print(f"others        {', '.join(f'{value:.2g} ({name})' for name, value in others)}")
    kept = [override for override in overrides if not override.startswith("optimizer.lr=")]
    print(f"train         {' '.join(['python train.py', *map(quoted, kept), f'optimizer.lr={rate:.2g}'])}")
    draw(curve, suggested, Path(own["figure"]))


def number(own: dict[str, str], key: str) -> float:
    """Reads a finite number from the command line."""
    try:
        value = float(own[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError([f"{key}={own[key]}: must be a number"])
    return value


def quoted(override: str) -> str:
    """An override as a shell takes it."""
    return f"'{override}'" if set(override) & set("[](){}*?$ ") else override


def lines(curve: "Curve") -> list[str]:
    """The smoothed loss at some of the rates, with bars from 0 to the largest but the broken ones."""
    stride = -(-len(curve.rates) // ROWS)
    top = max(curve.smoothed[: max(1, len(curve.losses) // 10)])
    shown = [f"{'lr':>14}{'loss':>10}"]
    every = list(zip(curve.rates, curve.smoothed, strict=True))
    for rate, loss in [*every[:-1:stride], every[-1]]:
        filled = round(BAR * min(loss / top, 1)) if loss >= 0 else 0
        shown.append(f"{rate:14.2g}{loss:10.4g}  {'#' * filled}{'+' if loss > 1.01 * top else ''}".rstrip())
    return shown


def draw(curve: "Curve", suggested: dict[str, float], path: Path) -> None:
    """Draws the loss over the rate, with the suggestions."""
    drawing = figure.new()
    axes = drawing.add_subplot()
    axes.plot(curve.rates, curve.losses, color="0.75", label=figure.label("loss of a batch", "批次损失"))
    axes.plot(curve.rates, curve.smoothed, label=figure.label("smoothed", "平滑后"))
    chinese = {"minimum / 10": "最低点 / 10", "steepest": "下降最快", "valley": "最长下降段中点"}
    colours = {"minimum / 10": "C2", "steepest": "C1", "valley": "C3"}
    for rule, rate in suggested.items():
        name, colour = figure.label(rule, chinese[rule]), colours[rule]
        axes.axvline(rate, color=colour, linestyle="--", label=f"{name}: {rate:.2g}")
    start = float(curve.smoothed[0])
    axes.set_ylim(min(0.0, float(curve.losses.min())), 2 * start)
    axes.set_xscale("log")
    axes.set_xlabel(figure.label("learning rate", "学习率"))
    axes.set_ylabel(figure.label("loss", "损失"))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.finish(drawing, path)


if __name__ == "__main__":
    cli.script(main, __doc__)
