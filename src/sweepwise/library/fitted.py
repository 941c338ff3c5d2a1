"""A run that has ended, as a short table in a terminal and with its curves in a notebook."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sweepwise.early_stop import Best
from sweepwise.library.curves import svg
from sweepwise.system.console import wrapped

GOES_ON = {
    "interrupted": "; the same call goes on from there",
    "pruned": "; the same parts without pause_after, or with a later one, go on from there",
}
SHOWN = 12  # other metrics in the table, the best weights' first


@dataclass(frozen=True, repr=False)
class Fitted:
    """A run that has ended.

    Attributes:
        status: 'finished', 'stopped early', 'diverged', 'pruned' or 'interrupted'.
        reason: why it stopped before its end; '' if it did not.
        best: metric, value, epoch and step of the best weights; where these are the last ones for want of a
            validation part, the metric is None and the value nan.
        metrics: the last value of each, by tag; 'test/...' is measured once, with the best weights.
        final: all metrics of the task, measured with the best weights, on 'val' and 'test', if there are;
            none of a run that was interrupted or has paused.
        history: the metrics of each epoch, by tag, with 'epoch' and 'step'.
        model: with the best weights, in evaluation mode. It is the network of the parts: another `fit` of
            them trains it again.
        notes: what was known before the training, such as a setting that has no effect.
        seconds: that it took, in all attempts.
        folder: where it was written; '': nowhere.

    Example:
        >>> from sweepwise import Arrays, Settings, build, fit, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=6)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.1), Settings(max_epochs=3, device="cpu")
        >>> fitted = fit(build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings))
        >>> fitted.status, fitted.best.metric, len(fitted.history)
        ('finished', 'val/loss', 3)
    """

    status: str
    reason: str
    best: Best
    metrics: Mapping[str, float]
    final: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, float]]
    model: nn.Module
    notes: Sequence[str]
    seconds: float = 0.0
    folder: str = ""

    def __repr__(self) -> str:
        return "\n".join(wrapped(key, text) for key, text in self._rows())

    def _repr_html_(self) -> str:
        """The same as a table, with the curves of loss and best metric, for a notebook."""
        rows = "".join(
            f'<tr><th style="text-align:left;vertical-align:top">{html.escape(key)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for key, text in self._rows()
        )
        pictures = "".join(svg(self.history, tags, self.best.epoch) for tags in self._drawn())
        return f'<table>{rows}</table><div style="display:flex;flex-wrap:wrap;gap:1em">{pictures}</div>'

    def _drawn(self) -> Iterator[list[str]]:
        """The tags of each picture: the loss of both parts, and what has chosen the weights."""
        for name in dict.fromkeys(["loss", (self.best.metric or "loss").partition("/")[2]]):
            tags = [f"{part}/{name}" for part in ("train", "val")]
            if there := [tag for tag in tags if any(tag in line for line in self.history)]:
                yield there

    def _rows(self) -> Iterator[tuple[str, str]]:
        epochs = len(self.history)
        ended = f"{epochs} epoch{'' if epochs == 1 else 's'}, {self.seconds:.1f} s"
        yield self.status, f"{ended}: {self.reason}" if self.reason else ended
        if self.best.epoch >= 0:
            value = f"{self.best.metric} {self.best.value:.6g}" if self.best.metric else "the last weights,"
            yield "best", f"{value} at epoch {self.best.epoch}"
        for part, values in self._measured().items():
            shown = list(values.items())[:SHOWN]
            yield part, ", ".join(f"{name} {value:.4g}" for name, value in shown)
        if self.folder:
            goes_on = GOES_ON.get(self.status, "")
            yield "folder", f"{self.folder}{goes_on}"
        for note in self.notes:
            yield "note", note

    def _measured(self) -> Mapping[str, Mapping[str, float]]:
        """The metrics that are one number, by part: with the best weights, else the last ones."""
        if not self.final:
            last: dict[str, dict[str, float]] = {}
            for tag, value in self.metrics.items():
                part, _, name = tag.partition("/")
                last.setdefault(f"last {part}", {})[name] = value
            return last
        return {
            f"{part} of best": {
                name: value
                for name, value in values.items()
                if isinstance(value, (int, float)) and math.isfinite(value)
            }
            for part, values in self.final.items()
        }
