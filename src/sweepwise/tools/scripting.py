"""Functions that scripts share: they parse arguments, compose runs of several options, train and draw."""

import contextlib
import io
import itertools
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sweepwise.errors import UsageError
from sweepwise.store import record
from sweepwise.store.folders import RECORD
from sweepwise.store.request import Request
from sweepwise.store.status import ended
from sweepwise.system import signals
from sweepwise.system.console import print_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Drawn = TypeVar("Drawn")

SHOWN = ("accuracy", "r2", "loss")  # metrics of a task by which a run is shown: the first that was measured
FIGURES = (".png", ".pdf", ".svg")


def settings(arguments: Sequence[str], **defaults: str) -> tuple[dict[str, str], list[str]]:
    """Separates a script's own settings from its other arguments.

    Args:
        arguments: of the command line, each KEY=VALUE.
        defaults: the script's own keys with their default values; 'figure' is a path, or '' for none.

    Returns:
        The value of each own key, and the other arguments: overrides, as train.py takes them.

    Raises:
        UsageError: an argument is not KEY=VALUE, an own key is given twice, or the figure is not a picture.
    """
    faults = []
    given: dict[str, str] = {}
    rest: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-") or not equals:
            faults.append(f"{argument}: must be KEY=VALUE; --help shows examples")
        elif key not in defaults:
            rest.append(argument)
        elif not value:
            faults.append(f"{argument}: must be given a value")
        elif key in given:
            faults.append(f"{argument}: {key} is given twice")
        else:
            given[key] = value
    chosen = defaults | given
    if chosen.get("figure") and Path(chosen["figure"]).suffix not in FIGURES:
        faults.append(f"figure={chosen['figure']}: must end in {', '.join(FIGURES)}")
    if faults:
        raise UsageError(faults)
    return chosen, rest


def run_and_settings(arguments: Sequence[str], **defaults: str) -> tuple[Path, dict[str, str]]:
    """The folder of a run, which is the first argument, and a script's own settings.

    Raises:
        UsageError: the folder is missing, or another argument is not a setting of the script.
    """
    (folder,), chosen = leading(arguments, {"RUN": "the folder of a run"}, **defaults)
    return Path(folder), chosen


def leading(
    arguments: Sequence[str], wanted: Mapping[str, str], **defaults: str
) -> tuple[list[str], dict[str, str]]:
    """The arguments that come first, without a key, and a script's own settings.

    Args:
        arguments: of the command line.
        wanted: what comes first: the name of each, as in the help, and what it is.
        defaults: the script's own keys with their default values.

    Raises:
        UsageError: one that comes first is missing, or another argument is not a setting of the script.
    """
    for place, (name, what) in enumerate(wanted.items()):
        if len(arguments) <= place or arguments[place].partition("=")[0] in defaults:
            raise UsageError([f"{name}: must be given, {what}; --help shows examples"])
    chosen, rest = settings(arguments[len(wanted) :], **defaults)
    if rest:
        known = ", ".join(f"{key}=" for key in defaults) or "none"
        raise UsageError(
            [f"{argument}: is not a setting of this script; it takes {known}" for argument in rest]
        )
    return list(arguments[: len(wanted)]), chosen


def chosen_run(folder: Path) -> Path:
    """A run's folder; or the best run of an experiment whose folder is given, which is printed to stderr."""
    from sweepwise.predict.kept import PREDICTION
    from sweepwise.results.choice import best_run

    if not folder.is_dir() or any((folder / name).exists() for name in (RECORD, PREDICTION)):
        return folder
    best = best_run(folder)
    print_line("run", f"{best}: best {record.best(record.read(best))}", sys.stderr)
    return best


def file_to_write(key: str, text: str, *sources: Path) -> Path:
    """The path of a file that a script writes.

    Args:
        key: of the setting, for messages.
        text: the path.
        sources: files that it must not replace.

    Raises:
        UsageError: its folder is missing, or it is a folder, or one of the sources.
    """
    path = Path(text)
    if not path.parent.is_dir():
        raise UsageError([f"{key}={text}: must be a file in a folder that exists"])
    if path.is_dir() or any(path.exists() and one.exists() and path.samefile(one) for one in sources):
        raise UsageError([f"{key}={text}: must not be a folder, or the file that is read"])
    return path


def sweep(arguments: Sequence[str]) -> Path:
    """The folder of a sweep, which is the only argument of a script.

    Raises:
        UsageError: it is missing, is not the only argument, or does not exist.
    """
    if len(arguments) != 1:
        rule = "must be the only argument: an experiment's folder, such as outputs/main"
        raise UsageError([f"SWEEP: {rule}"])
    home = Path(arguments[0])
    if not home.is_dir():
        raise UsageError([f"{home}: must be an experiment's folder, such as outputs/main, but is missing"])
    return home


def words(key: str, text: str) -> list[str]:
    """The items of a list that is written with commas.

    Raises:
        UsageError: an item is empty or is given twice.
    """
    items = [word.strip() for word in text.split(",")]
    if not all(items) or len(set(items)) < len(items):
        raise UsageError([f"{key}={text}: must be a list such as a,b,c, each named once"])
    return items


def options(conf: Path, group: str, text: str) -> list[str]:
    """The options of a group that a text names: 'a,b,c', or 'all'.

    Raises:
        UsageError: see `words`.
    """
    return (
        sorted(path.stem for path in (conf / group).glob("*.yaml")) if text == "all" else words(group, text)
    )


def beside_each_other(
    compose: Callable[[Sequence[str]], Request],
    group: str,
    names: Sequence[str],
    overrides: Sequence[str],
    *,
    leave_out: bool = False,
) -> dict[str, Request]:
    """The same run with each of several options of a group.

    An override of the group's keys applies to the options that have the key: 'scheduler.gamma=0.5' to
    step and exponential, not to cosine.

    Args:
        compose: composes a run from overrides.
        group: such as 'scheduler'.
        names: the options.
        overrides: of all the runs.
        leave_out: whether to skip and print options that cannot be composed, such as one that needs a path.

    Raises:
        UsageError: an override cannot be composed, or none of the options has its key.
    """
    own = [override for override in overrides if override.startswith(f"{group}.")]
    shared = [override for override in overrides if override not in own]
    unused = list(own)
    requests = {}
    for name in names:
        try:
            plain = compose([f"{group}={name}", *shared])
        except UsageError as error:
            if not leave_out or len(names) == 1:
                raise
            print(f"left out      {name}: {error.faults[0]}")
            continue
        fitting = [override for override in own if _has(plain.config, override.partition("=")[0])]
        unused = [override for override in unused if override not in fitting]
        requests[name] = compose([f"{group}={name}", *shared, *fitting]) if fitting else plain
    if unused or not requests:
        compose([f"{group}={names[0]}", *shared, *unused])  # raises the error
    return requests


def _has(config: Mapping[str, Any], key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def each(
    requests: Mapping[str, Request], draw: Callable[[Request], Drawn], *, leave_out: bool
) -> dict[str, Drawn]:
    """The result of a function for each run, by name.

    Args:
        requests: the runs.
        draw: the function; it returns what is drawn of a run.
        leave_out: whether to skip runs that cannot be drawn; each is printed.

    Raises:
        UsageError: a run cannot be drawn; with `leave_out`, none can.
    """
    drawn: dict[str, Drawn] = {}
    faults: list[str] = []
    for name, request in requests.items():
        try:
            drawn[name] = draw(request)
        except UsageError as error:
            if not leave_out:
                raise
            faults.append(f"{name}: {error.faults[0]}")
    if not drawn:
        raise UsageError(faults)
    for fault in faults:
        print(f"left out      {fault}")
    return drawn


def grid(panels: int) -> tuple[int, int]:
    """Rows and columns of the grid for a number of panels."""
    columns = min(panels, 2 if panels <= 4 else 3 if panels <= 9 else 4)
    return -(-panels // columns), columns


def trained(request: Request, train: Callable[[Request], Any]) -> Path:
    """Trains a run, unless it has ended before; returns its folder.

    Args:
        request: the run.
        train: trains it; `sweepwise.run.train`.
    """
    if not ended(record.read(request.folder)):
        with contextlib.redirect_stdout(io.StringIO()):  # one line a run is enough here
            code = train(request).exit_code
        if code == signals.exit_code(signal.SIGINT):
            raise KeyboardInterrupt
        if code > signals.SIGNALLED:
            raise SystemExit(code)
    known = record.read(request.folder)
    print(f"{known['status']:<14}{request.folder}", flush=True)
    return request.folder


def shown_metrics() -> list[str]:
    """The tags of metrics by which a run is shown: the first of these that was measured."""
    return [f"{part}/{name}" for part in ("val", "train") for name in SHOWN]


def score(folder: Path) -> str:
    """A run's last value of the metric by which it is shown: 'val/accuracy 0.9722'."""
    known = record.read(folder)
    last = record.last_metrics(known)
    tag = next((tag for tag in shown_metrics() if last.get(tag) is not None), "")
    return f"{tag} {last[tag]:.4f}" if tag else f"{known.get('status', '')} without a metric"


def draw_curves(axes: "Axes", groups: Mapping[str, Sequence[Sequence[dict[str, Any]]]], tag: str) -> None:
    """Draws a metric by epoch: a thin line for each run, and a group's mean to the end of its shortest run.

    Args:
        axes: to draw on.
        groups: `history` of the runs of each group, by its name.
        tag: of the metric.
    """

    def all_known(values: Sequence[float | None]) -> bool:
        return None not in values

    for number, (name, runs) in enumerate(groups.items()):
        colour = f"C{number % 10}"
        for lines in runs:
            points = [(line["epoch"], line[tag]) for line in lines if line.get(tag) is not None]
            axes.plot(*zip(*points, strict=True), color=colour, alpha=0.35, linewidth=0.8)
            axes.plot(*points[-1], color=colour, marker="o", markersize=4, zorder=3)
        together = list(zip(*([line.get(tag) for line in lines] for lines in runs), strict=False))
        means = [sum(values) / len(values) for values in itertools.takewhile(all_known, together)]
        epochs = [line["epoch"] for line in runs[0][: len(means)]]
        axes.plot(epochs, means, color=colour, linewidth=2, label=name)
    axes.locator_params(axis="x", integer=True)
    axes.grid(True, alpha=0.3)
