"""The progress of a training: a bar on a terminal or in a notebook, plain lines anywhere else, or nothing."""

import html
import time
from types import TracebackType
from typing import Any

from sweepwise.system.console import in_notebook, on_terminal

LINES = 10  # plain lines in a whole training, approximately
EACH_SECONDS = 0.2  # between two states of a notebook's bar, which are messages to the browser


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


class NotebookBar(Silent):
    """As `Bar`, below the cell of a notebook, by the browser's own element.

    Args:
        steps: of the whole training.
        begin: steps taken before, by an earlier attempt.
    """

    def __init__(self, steps: int, begin: int = 0) -> None:
        self._steps, self._begin, self._step, self._text = steps, begin, begin, ""
        self._started = self._shown = time.monotonic()
        self._display: Any = None

    def __enter__(self) -> "NotebookBar":
        from IPython.display import HTML, display

        self._display = display(HTML(self._page()), display_id=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from IPython.display import HTML

        self._display.update(HTML(""))

    def advance(self, step: int) -> None:
        """Moves the bar to this step."""
        from IPython.display import HTML

        self._step = step
        now = time.monotonic()
        if now - self._shown >= EACH_SECONDS:
            self._shown = now
            self._display.update(HTML(self._page()))

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """Moves the bar and shows the epoch's values."""
        self._text = f"epoch {epoch}  lr {rate:.3g}  {_shown(values)}"
        self.advance(step)

    def _page(self) -> str:
        taken = self._step - self._begin
        spent = time.monotonic() - self._started
        left = f"{spent / taken * (self._steps - self._step):.0f} s left" if taken else ""
        text = html.escape(f"{100 * self._step // self._steps} %  {left}  {self._text}")
        bar = f'<progress max="{self._steps}" value="{self._step}" style="width:12em"></progress>'
        return f'<div style="font-family:monospace;white-space:pre">{bar} {text}</div>'


def progress(steps: int, wanted: bool, begin: int = 0) -> Silent:
    """The display that fits the output: a bar on a terminal or in a notebook, else `Lines`; or `Silent`."""
    if not wanted:
        return Silent()
    if in_notebook():
        return NotebookBar(steps, begin)
    return Bar(steps, begin) if on_terminal() else Lines(steps, begin)


def _shown(values: dict[str, float]) -> str:
    short = {tag: value for tag, value in values.items() if tag.startswith(("train/loss", "val/"))}
    return "  ".join(f"{tag} {value:.4g}" for tag, value in short.items())
