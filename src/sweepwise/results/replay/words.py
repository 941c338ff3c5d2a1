"""A replay as the terminal prints it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence

from sweepwise.results.further_runs import commands
from sweepwise.results.question import label
from sweepwise.results.replay.early_stopping import Replay
from sweepwise.results.replay.halving import Halving
from sweepwise.results.replay.replayed import Replayed
from sweepwise.results.replay.sentences import about, halved, interval, notes, percent, recommendation
from sweepwise.results.run_folder import is_replicate
from sweepwise.results.statistics.difference import Difference

Passage = tuple[str, str]  # a key and a text
HEAD = f"{'patience':>8}{'min_delta':>10}{'epochs saved':>17}{'lost':>28}{'runs':>7}{'censored':>9}"
WIDEST = 999.0  # numbers beyond it, or all below a hundredth, are printed as multiples of a power of 10


def rows(found: Replay) -> list[str]:
    """The lines of the table of all rules, of 80 columns at most."""
    power = _power([one.lost for one in found.rules if one.lost])
    unit = f" in {10.0**power:g}" if power else ""
    lines = []
    for metric in dict.fromkeys(one.rule.metric for one in found.rules):
        lines += [f"early stopping by {metric}; lost: {found.table.metric}{unit}", HEAD]
        lines += [_line(one, power) for one in found.rules if one.rule.metric == metric]
        lines.append("")
    return lines[:-1]


def _line(one: Replayed, power: int) -> str:
    saved = percent(one.saved) if one.saved else "-"
    lost = _interval(one.lost, 10.0**power) if one.lost else "-"
    patience = str(one.rule.patience) if one.rule.patience < 10**8 else f"{one.rule.patience:.1e}"
    rule = f"{patience:>8}{one.rule.min_delta:>10g}"
    return f"{rule}{saved:>17}{lost:>28}{one.n:>7}{one.censored:>9}"


def passages(found: Replay, halvings: Sequence[Halving] = ()) -> list[Passage]:
    """What is said beside the table."""
    text = recommendation(found)["en"]
    said: list[Passage] = [("replay", about(found)["en"]), *(("note", note["en"]) for note in notes(found))]
    said.append(("use" if found.recommended else "none", text))
    if worst := _worst_setting(found):
        said.append(("", worst))
    said += [("next", command) for command in command_of(found)]
    return said + [("halving", halved(found, one)["en"]) for one in halvings]


def command_of(found: Replay) -> list[str]:
    """The commands that train the sweep with the recommended rule, on new seeds; none without a rule."""
    best = found.recommended
    if best is None:
        return []
    runs = max(len(found.table.cells[setting]) for setting in found.settings)
    lines = commands(found.table, found.settings, runs)
    return list(dict.fromkeys(_with(line, best.rule.overrides) for line in lines))


def _with(command: str, overrides: Sequence[str]) -> str:
    """A command with these overrides of early stopping in place of its own, before those of replicates."""
    words = [word for word in shlex.split(command) if not re.match(r"early_stop[.=]", word)]
    place = next((n for n, word in enumerate(words) if is_replicate(word.partition("=")[0])), len(words))
    return shlex.join([*words[:place], *overrides, *words[place:]])


def _interval(found: Difference, unit: float) -> str:
    """A mean with its interval in a unit, short enough for a column."""
    mean, low, high = (round(end / unit, 4) + 0.0 for end in (found.mean, found.low, found.high))
    form = ".1f" if max(abs(mean), abs(low), abs(high)) >= 100 and math.isfinite(high) else ".4f"
    return f"{mean:{form}}" + (f" [{low:{form}}, {high:{form}}]" if math.isfinite(high - low) else "")


def _power(lost: Sequence[Difference]) -> int:
    """The power of 10 in which losses are printed; 0 where they are readable as they are."""
    ends = [abs(end) for one in lost for end in (one.mean, one.low, one.high) if math.isfinite(end)]
    largest = max(ends, default=0.0)
    return 0 if largest == 0 or 0.01 <= largest <= WIDEST else math.floor(math.log10(largest))


def _worst_setting(found: Replay) -> str:
    """Where the recommended rule loses most; '' where nothing varies or is lost."""
    best = found.recommended
    if best is None or len(found.settings) < 2:
        return ""
    lost = best.lost_by_setting
    place = max(range(len(found.settings)), key=lambda place: lost.mean[place])
    if not lost.mean[place] > 0:
        return "no setting loses anything on average"
    at = interval(lost.of(place))
    return f"it loses most at {label(found.table.settings, found.settings[place])}: {at}"
