# mypy: disable-error-code="import-untyped"
"""The settings of a sweep in TensorBoard: a run for each, with the mean over its replicates and a band.

A mean has the tag and the steps of what it is the mean of, so it lies over the runs in the charts of the Time
Series tab. The band is drawn in the Custom Scalars tab. Its ends are tags of the same run, since TensorBoard
shades between tags of one run only, in a family that comes last and is folded.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sweepwise.monitor import tags
from sweepwise.monitor.tfrecord import (
    SUMMARY,
    framed,
    plugin_summary,
    scalar_summary,
    text_tensor,
    version_record,
)
from sweepwise.results import run_folder
from sweepwise.results.answer import ranking
from sweepwise.results.markup import code
from sweepwise.results.run_folder import shown
from sweepwise.results.statistics.estimate import CONFIDENCE
from sweepwise.results.table import Row, Table, Values
from sweepwise.results.tensorboard import hparams_columns
from sweepwise.results.tensorboard.mean_curve import LEAST, RUNS, Curve, curve, ends
from sweepwise.store.folders import MEAN
from sweepwise.store.request import BETWEEN, NAME_BYTES, readable
from sweepwise.system import atomic

MOST = 200  # settings that are written; TensorBoard selects no run at all if there are more than 500
WRITERS = 8
FILE = "events.out.tfevents.{seconds:010d}.{digest}.mean"
FILES = "events.out.tfevents.*.mean"


def write(home: Path, table: Table) -> int:
    """Writes the mean runs of an experiment into 'HOME/_mean', and removes those of settings that are gone.

    Runs that failed or diverged are in no mean.

    A file whose content would be the same stays. Another one gets a new name, as TensorBoard does not look
    again into a file that was replaced.

    Args:
        home: folder of the experiment.
        table: its runs.

    Returns:
        How many settings with several replicates were left out, the last ones of the answer's ranking.

    Raises:
        OSError: a file cannot be written.
    """
    cells = {setting: rows for setting, rows in table.cells.items() if _logged(rows) >= LEAST}
    chosen = [one.setting for one in ranking(table, CONFIDENCE) if one.setting in cells][:MOST]
    named = names(table.settings, chosen)
    with ThreadPoolExecutor(WRITERS) as pool:  # each waits for the disk
        done = [
            pool.submit(_replace, *changed)
            for setting in chosen
            if (changed := _changed(home / MEAN / named[setting], table, setting, cells[setting]))
        ]
    for writing in done:
        writing.result()
    _remove_others(home / MEAN, set(named.values()))
    return len(cells) - len(chosen)


def _logged(rows: Sequence[Row]) -> int:
    """How many of the runs that have not failed TensorBoard shows."""
    return sum(hparams_columns.in_tensorboard(row) and not row.failed for row in rows)


def names(keys: Sequence[str], settings: Sequence[Values]) -> dict[Values, str]:
    """A name for the folder of each setting: 'init=xavier__optimizer.lr=0.1'; 'all' if nothing varies.

    Names that would be cut off or equal end with a hash of the setting.
    """
    found = {}
    for setting in settings:
        values = {key: value for key, value in zip(keys, setting, strict=True) if value is not None}
        words = [readable(f"{key}={shown(value)}") for key, value in values.items()]
        found[setting] = BETWEEN.join(words) or "all"
    often = Counter(found.values())
    for setting, name in found.items():
        if often[name] > 1 or len(name) > NAME_BYTES:
            digest = hashlib.sha256(repr(setting).encode()).hexdigest()[:8]
            found[setting] = f"{name[: NAME_BYTES - 9]}-{digest}"
    return found


def _changed(
    folder: Path, table: Table, setting: Values, rows: Sequence[Row]
) -> tuple[Path, bytes, list[Path]] | None:
    """The file of a setting, its content, and the files that it replaces; None if nothing has changed."""
    found = curve([run_folder.epochs(row.folder) for row in rows if not row.failed])
    text = "\n".join(_described(table, setting, rows, found))
    digest = hashlib.sha256(json.dumps([found.steps, found.values, text]).encode()).hexdigest()[:16]
    before = sorted(folder.glob(FILES))
    if before and before[-1].name.split(".")[4:5] == [digest]:
        for old in before[:-1]:  # of another process that wrote at the same time
            old.unlink(missing_ok=True)
        return None
    last = max((int(path.name.split(".")[3]) for path in before), default=0)
    seconds = max(int(time.time()), last + 1)  # TensorBoard reads files in the order of their names
    return folder / FILE.format(seconds=seconds, digest=digest), b"".join(_records(found, text)), before


def _replace(path: Path, content: bytes, before: Sequence[Path]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomic(path, content)
    for old in before:
        old.unlink(missing_ok=True)


def _records(found: Curve, text: str) -> Iterator[bytes]:
    yield version_record()
    yield framed(0, SUMMARY, plugin_summary("run/mean", "text", text_tensor(text.encode())))
    layout = text_tensor(_layout(found.tags))
    yield framed(0, SUMMARY, plugin_summary("custom_scalars__config__", "custom_scalars", layout))
    for step, values in zip(found.steps, found.values, strict=True):
        named = {tags.shown(key): value for key, value in values.items()}
        yield framed(step, SUMMARY, scalar_summary(named))


def _layout(keys: Sequence[str]) -> bytes:
    """A chart for each metric in the Custom Scalars tab: the means of all settings, with their bands."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent

    charts = []
    for key in sorted(keys, key=lambda key: not key.startswith("val/")):
        low, high = ends(key)
        series = MarginChartContent.Series(value=tags.shown(key), lower=low, upper=high)
        charts.append(Chart(title=key, margin=MarginChartContent(series=[series])))
    title = f"mean over replicates, {CONFIDENCE:.0%} interval"
    means = Category(title=title, chart=charts)
    curves = tags.layout(tags.charts(keys)).category  # as a run has them
    return Layout(category=[means, *curves]).SerializeToString(deterministic=True)


def _described(table: Table, setting: Values, rows: Sequence[Row], found: Curve) -> Iterator[str]:
    """What the mean is of, in Markdown."""
    pairs = [code(f"{key}={shown(value)}") for key, value in zip(table.settings, setting, strict=True)]
    what = ", ".join(pairs) or "one setting"
    counted = [row for row in rows if not row.failed]
    yield f"Mean of {len(counted)} runs of {what}; Student's {CONFIDENCE:.0%} interval."
    yield ""
    if failed := len(rows) - len(counted):
        yield f"- without the {failed} that failed or diverged"
    before = len(counted)
    for step, values in zip(found.steps, found.values, strict=True):
        if (n := int(values[RUNS])) != before:
            yield f"- from step {step} on of {n}: the others have ended, or have not got so far"
            before = n
    if found.alone:
        yield f"- no mean of the {found.alone:,} epochs that one run alone has reached"
    for row in rows:
        yield f"- {code(row.folder.name)}: {row.status}"


def _remove_others(home: Path, kept: set[str]) -> None:
    """Removes mean runs that were not written now; what else there is stays."""
    for folder in home.glob("*"):
        if folder.name in kept or folder.is_symlink():
            continue
        for path in folder.glob(FILES):
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
