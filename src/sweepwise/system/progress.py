"""The progress of a training: a bar on a terminal, plain lines anywhere else, nothing if not wanted."""

import time
from types import TracebackType

from sweepwise.system.console import on_terminal

LINES = 10  # plain lines in a whole training, approximately


class Silent:
    """Shows nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def advance(self, step: int) -> None:
        """Nothing."""

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """Nothing."""


class Lines(Silent):
    """A line of text for every tenth of the training, for pipes and log files.

    Args:
        steps: of the whole training.
        begin: steps taken before, by an earlier attempt.
    """

    def __init__(self, steps: int, begin: int = 0) -> None:
        self._steps = steps
        self._begin = begin
        self._next = 0.0
        self._started = time.monotonic()

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """Prints a line if a tenth of the training has passed since the last one."""
        if step >= self._next:
            spent = time.monotonic() - self._started
            left = spent / max(1, step - self._begin) * (self._steps - step)
            print(f"epoch {epoch:>4}  {_shown(values)}  lr {rate:.3g}  {left:.0f} s left", flush=True)
            self._next = step + self._steps / LINES


class Bar(Silent):
    """A progress bar with loss, metric, learning rate and time left; it disappears when the training ends.

    Args:
        steps: of the whole training.
        begin: steps taken before, by an earlier attempt.
    """

    def __init__(self, steps: int, begin: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column

        console = Console()
        bar = BarColumn(bar_width=20 if console.width >= 100 else 5)
        text = TextColumn(
            "{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        )
        self._bar = Progress(
            bar,
            TaskProgressColumn(),
            TimeRemainingColumn(),
            text,
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=steps, completed=begin)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step)

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """Moves the bar and shows the epoch's values."""
        text = f"epoch {epoch}  lr {rate:.3g}  {_shown(values)}"
        self._bar.update(self._task, completed=step, description=text)


def progress(steps: int, wanted: bool, begin: int = 0) -> Silent:
    """The display that fits the output: `Bar` on a terminal, else `Lines`; `Silent` if it is not wanted."""
    if not wanted:
        return Silent()
    return Bar(steps, begin) if on_terminal() else Lines(steps, begin)


def _shown(values: dict[str, float]) -> str:
    short = {tag: value for tag, value in values.items() if tag.startswith(("train/loss", "val/"))}
    return "  ".join(f"{tag} {value:.4g}" for tag, value in short.items())
