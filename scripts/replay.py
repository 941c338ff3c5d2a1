"""Replays early stopping and successive halving on the curves of a sweep.

  python scripts/replay.py outputs/main                     the usual rules
  python scripts/replay.py outputs/main metric=val/loss,val/accuracy patience=2,5,10 min_delta=0,0.001
  python scripts/replay.py outputs/main rungs=1,3,9 eta=3
  python scripts/replay.py outputs/main table=rules.csv runs=runs.parquet figure=replay.png

For each rule of early stopping it says which share of the epochs would have been saved, and how much worse
the metric would have been with the weights that would have been kept, each run against itself. Runs that were
stopped before a rule would have stopped them are censored: counted, and in no mean. docs/replay.md says more.
It reads run folders alone, of one experiment or of several (FOLDER FOLDER ...); by=, replicates= and
KEY=VALUE are those of scripts/answer.py.

  metric=      what the rules watch; else the metric that values are judged by, val/loss, val/accuracy, val/r2
  patience=    epochs without improvement; else 2,5,10,20
  min_delta=   what counts as an improvement, in the metric's unit; else 0,0.001
  min_epochs=  epochs before which no rule stops; else 0
  judged_by=   the metric in which a loss counts; else the one that chose the weights that were kept
  margin=      the largest loss that does not matter; else 0.95 standard deviations of a run
  rare=        the share of seeds that may lose more by a rule that is recommended; else 0.05
  rungs=       epochs after which successive halving compares; else 1, eta, eta^2 ...
  eta=         one of this many settings is kept at a rung; else 3
  table=       writes a row a rule, and a rule and setting, as .csv or .parquet; runs= a row a rule and run
  figure=      draws what is saved against what is lost, as .png, .pdf or .svg
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.results import export, loading, words
from sweepwise.results.replay import records as replay_records
from sweepwise.results.replay import words as replay_words
from sweepwise.results.replay.early_stopping import MIN_DELTAS, Replay, replay
from sweepwise.results.replay.halving import ETA, Halving, halving
from sweepwise.results.replay.losing import RARE
from sweepwise.results.replay.replayed import Replayed
from sweepwise.results.table import Table
from sweepwise.tools import scripting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULES = ("metric", "patience", "min_delta", "min_epochs", "rungs", "eta")
OWN = (*RULES, "judged_by", "margin", "rare", "by", "replicates", "table", "runs", "figure")
WRITTEN = {"table": export.FORMS, "runs": export.FORMS, "figure": scripting.FIGURES}
LINES = ("-", "--", ":", "-.")


def main(arguments: list[str]) -> None:
    """Prints the replay and writes what was asked for."""
    homes = [argument for argument in arguments if not re.match(r"[\w.]+=", argument)]
    given = [argument for argument in arguments if argument not in homes]
    own, others = scripting.settings(given, **dict.fromkeys(OWN, ""))
    for key, forms in WRITTEN.items():
        if own[key]:
            export.check(Path(own[key]), forms)
    if not homes:
        raise UsageError(["FOLDER: must be given, the folder of an experiment, such as outputs/main"])
    replayed = replay(
        _loaded(homes, own, others),
        _listed(own, "metric"),
        _whole(own, "patience"),
        _numbers(own, "min_delta") or MIN_DELTAS,
        min_epochs=(_whole(own, "min_epochs", one=True) or [0])[0],
        margin=next(iter(_numbers(own, "margin", one=True) or ()), None),
        rare=(_numbers(own, "rare", one=True) or [RARE])[0],
    )
    halved = _halved(replayed, _whole(own, "rungs"), _whole(own, "eta", one=True))
    if own["table"]:
        export.write(Path(own["table"]), replay_records.of_rules(replayed))
    if own["runs"]:
        export.write(Path(own["runs"]), replay_records.of_runs(replayed))
    first, *rest = replay_words.passages(replayed, halved)
    print(words.text([first]), "", *replay_words.rows(replayed), "", words.text(rest), sep="\n")
    if own["figure"]:
        draw(replayed, Path(own["figure"]))


def _loaded(homes: Sequence[str], own: Mapping[str, str], others: Sequence[str]) -> Table:
    """The table of the runs."""
    try:
        return loading.load(
            *homes,
            metric=own["judged_by"] or None,
            by=_listed(own, "by"),
            replicates=_listed(own, "replicates"),
            where={other.partition("=")[0]: other.partition("=")[2] for other in others},
        )
    except UsageError as error:
        raise UsageError([re.sub("^metric=", "judged_by=", fault) for fault in error.faults]) from None


def _halved(found: Replay, rungs: list[int] | None, eta: list[int] | None) -> list[Halving]:
    """Successive halving; nothing where it was not asked for and cannot be."""
    try:
        return [halving(found.table, rungs, eta[0] if eta else ETA, curves=found.curves)]
    except UsageError:
        if rungs or eta:
            raise
        return []


def draw(found: Replay, path: Path) -> None:
    """What is saved against what is lost: a line a metric and min_delta, a point a patience."""
    from sweepwise.tools import figure

    picture = figure.new(width=8, height=4.8)
    axes = picture.add_subplot()
    metrics = list(dict.fromkeys(one.rule.metric for one in found.rules))
    deltas = list(dict.fromkeys(one.rule.min_delta for one in found.rules))
    for metric in metrics:
        for delta in deltas:
            line = [one for one in found.rules if (one.rule.metric, one.rule.min_delta) == (metric, delta)]
            _draw_line(axes, line, metrics.index(metric), LINES[deltas.index(delta) % len(LINES)])
    axes.axhline(0, color="tab:gray", linewidth=0.8)
    if math.isfinite(found.margin.value):
        margin = figure.label("the loss that does not matter", "无关紧要的损失")
        axes.axhline(found.margin.value, color="tab:red", linestyle=":", linewidth=1, label=margin)
    axes.set_xlabel(figure.label("epochs saved (%)", "节省的轮次（%）"))
    axes.set_ylabel(figure.label(f"{found.table.metric} lost", f"{found.table.metric} 的损失"))
    hidden = any(one.censored for one in found.rules)
    english = "numbers: patience; bars: 95 % intervals" + (
        "; hollow: of some runs the end is hidden" * hidden
    )
    chinese = "数字为 patience；误差线为 95 % 区间" + "；空心：部分训练被删失" * hidden
    axes.set_title(figure.label(english, chinese), fontsize=10)
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.finish(picture, path)


def _draw_line(axes: "Axes", line: Sequence[Replayed], number: int, style: str) -> None:
    """One metric and min_delta; a rule of which no run has a known end has no point."""
    points = [(one, one.saved, one.lost) for one in line if one.saved and one.lost]
    if not points:
        return
    colour, rule = f"C{number % 10}", line[0].rule
    name = f"{rule.metric}, min_delta {rule.min_delta:g}"
    x, y = [100 * saved.mean for _, saved, _ in points], [lost.mean for _, _, lost in points]
    axes.plot(x, y, style, color=colour, label=name)
    for (one, saved, lost), across, up in zip(points, x, y, strict=True):
        if math.isfinite(saved.high - saved.low):
            wide = [[across - 100 * saved.low], [100 * saved.high - across]]
            high = [[up - lost.low], [lost.high - up]] if math.isfinite(lost.high - lost.low) else None
            axes.errorbar(across, up, xerr=wide, yerr=high, color=colour, capsize=2, linewidth=0.8)
        axes.plot(across, up, "o", color=colour, markerfacecolor="none" if one.censored else colour)
        offset = (4, 4 if style == LINES[0] else -11)
        axes.annotate(str(one.rule.patience), (across, up), offset, textcoords="offset points", color=colour)


def _listed(own: Mapping[str, str], key: str) -> list[str] | None:
    return scripting.words(key, own[key]) if own[key] else None


def _whole(own: Mapping[str, str], key: str, *, one: bool = False) -> list[int] | None:
    """Whole numbers of a setting; None where it was not given."""
    return [
        int(text)
        for text in _checked(own, key, r"[+-]?\d{1,18}", "a whole number of at most 18 digits", one=one)
    ] or None


def _numbers(own: Mapping[str, str], key: str, *, one: bool = False) -> list[float] | None:
    """Numbers of a setting; None where it was not given."""
    form = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?"
    return [float(text) for text in _checked(own, key, form, "a number", one=one)] or None


def _checked(own: Mapping[str, str], key: str, form: str, what: str, *, one: bool) -> list[str]:
    texts = _listed(own, key) or []
    if not all(re.fullmatch(form, text) for text in texts) or (one and len(texts) > 1):
        rule = f"must be {what}" if one else f"must be {what}, or several with commas"
        raise UsageError([f"{key}={own[key]}: {rule}"])
    return texts


if __name__ == "__main__":
    cli.script(main, __doc__)
