"""What scripts share: their own settings among the arguments, and options of a group beside each other."""

import contextlib
import io
import itertools
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sweepwise.errors import UsageError
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.store.status import ended
from sweepwise.system import signals

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Drawn = TypeVar("Drawn")

FIGURES = (".png", ".pdf", ".svg")


def settings(arguments: Sequence[str], **defaults: str) -> tuple[dict[str, str], list[str]]:
    """Takes a script's own settings out of its arguments.

    Args:
        arguments: of the command line, each KEY=VALUE.
        defaults: the script's own keys, with what each is if it is not given; a 'figure' is a path.

    Returns:
        The value of each own key, and the other arguments: overrides, as train.py takes them.

    Raises:
        UsageError: an argument is no KEY=VALUE, an own key comes twice, or the figure is no picture.
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
    if "figure" in chosen and Path(chosen["figure"]).suffix not in FIGURES:
        faults.append(f"figure={chosen['figure']}: must end in {', '.join(FIGURES)}")
    if faults:
        raise UsageError(faults)
    return chosen, rest


def run_and_settings(arguments: Sequence[str], **defaults: str) -> tuple[Path, dict[str, str]]:
    """The folder of a run, which comes first among the arguments, and a script's own settings.

    Raises:
        UsageError: it is missing, or what follows is no setting of the script.
    """
    if not arguments or arguments[0].partition("=")[0] in defaults:
        raise UsageError(["RUN: must be given, the folder of a run; --help shows examples"])
    chosen, rest = settings(arguments[1:], **defaults)
    if rest:
        known = ", ".join(f"{key}=" for key in defaults) or "nothing else"
        raise UsageError([f"{argument}: is no setting here; there is {known}" for argument in rest])
    return Path(arguments[0]), chosen


def sweep(arguments: Sequence[str]) -> Path:
    """The folder of a sweep, which is all that a script is given.

    Raises:
        UsageError: it is missing, not alone, or not there.
    """
    if len(arguments) != 1:
        rule = "must be given, and nothing else: an experiment's folder, such as outputs/main"
        raise UsageError([f"SWEEP: {rule}"])
    home = Path(arguments[0])
    if not home.is_dir():
        raise UsageError([f"{home}: must be an experiment's folder, such as outputs/main, but there is none"])
    return home


def words(key: str, text: str) -> list[str]:
    """The items of a list that is written with commas, each once.

    Raises:
        UsageError: nothing, or the same twice.
    """
    found = [word.strip() for word in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise UsageError([f"{key}={text}: must be a list such as a,b,c, each named once"])
    return found


def options(conf: Path, group: str, text: str) -> list[str]:
    """The options of a group that 'a,b,c' names; 'all' names every one.

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

    An override of the group's own keys goes to those options that have the key: 'scheduler.gamma=0.5' to
    step and exponential, not to cosine.

    Args:
        compose: makes a run of overrides.
        group: such as 'scheduler'.
        names: of its options.
        overrides: for all of them.
        leave_out: mention an option that cannot be composed alone, such as one that needs a path, and go on.

    Raises:
        UsageError: an override cannot be composed, or none of the options has its key.
    """
    own = [override for override in overrides if override.startswith(f"{group}.")]
    shared = [override for override in overrides if override not in own]
    unused = list(own)
    found = {}
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
        found[name] = compose([f"{group}={name}", *shared, *fitting]) if fitting else plain
    if unused or not found:
        compose([f"{group}={names[0]}", *shared, *unused])  # says what is wrong with it
    return found


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
    """What is drawn of each run, by name.

    Args:
        requests: the runs.
        draw: makes it.
        leave_out: mention a run that cannot be drawn and go on, as long as one can be.

    Raises:
        UsageError: one, or with `leave_out` all, cannot be drawn.
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
    """Rows and columns for so many panels, more wide than high from five on."""
    columns = min(panels, 2 if panels <= 4 else 3 if panels <= 9 else 4)
    return -(-panels // columns), columns


def trained(request: Request, train: Callable[[Request], Any]) -> Path:
    """The folder of a run that has ended, which is trained now unless it was before.

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


def draw_curves(axes: "Axes", groups: Mapping[str, Sequence[Sequence[dict[str, Any]]]], tag: str) -> None:
    """Draws a metric by epoch: each run thin to its end, and a group's mean as far as all of its runs go.

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
