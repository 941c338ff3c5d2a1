"""What makes the runs of a table less comparable than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

from sweepwise.errors import UsageError
from sweepwise.provenance import hashes
from sweepwise.results import notes, varying
from sweepwise.results.languages import Both, chinese
from sweepwise.results.run_folder import SPLIT, shown
from sweepwise.results.table import Row, Table, Values
from sweepwise.store.folders import SEARCH, SWEEP


def remarks(rows: Sequence[Row], varies: varying.Varying, metric: str) -> Iterator[Both]:
    """What makes the runs of a table less comparable than they look."""
    if not metric.startswith("val/"):
        yield Both(
            f"{metric} says how well the training part was fitted, not how good a setting is on new data",
            f"{metric} 只说明训练部分拟合得如何，不说明设置在新数据上有多好",
        )
    if without := sum(not row.measured for row in rows):
        yield Both(
            f"{without} of {len(rows)} runs did not measure {metric}, and do not count",
            f"{len(rows)} 次运行中有 {without} 次没有测量 {metric}，不计入",
        )
    for key, others in varies.tied.items():
        tied = ", ".join(others)
        yield Both(
            f"{tied} varies only together with {key}: their effects cannot be told apart",
            f"{tied} 只与 {key} 一同变化：二者的影响无法区分",
        )
    if changed := _changed_files(rows):
        more = (
            Both(f" and {len(changed) - 1} more files", f" 等 {len(changed)} 个文件") if changed[1:] else ""
        )
        yield Both(
            f"not all runs were trained by the same code: {changed[0]}{more} changed between them",
            f"各次运行所用的代码不尽相同：其间 {changed[0]}{chinese(more)} 有改动",
        )
    if len(varies.replicates) > 1:
        names = ", ".join(varies.replicates)
        yield Both(
            f"runs that share a value of {names} are not independent: intervals count values, not runs",
            f"{names} 取值相同的运行并不独立：区间按取值数计算，而非运行数",
        )
    yield from _searched(rows)
    yield from _data_changed(rows)
    yield from _unequal_splits(rows, varies)


def _searched(rows: Sequence[Row]) -> Iterator[Both]:
    """Whether a search decided by the results which settings got more seeds."""
    homes = {row.folder.parent for row in rows}
    logs = [home / SWEEP / SEARCH for home in homes if (home / SWEEP / SEARCH).is_file()]
    if logs and len(set(Counter(row.setting for row in rows).values())) > 1:
        yield Both(
            "a search gave more seeds to settings that looked better: intervals and verdicts here, which are "
            "for numbers of seeds that were fixed beforehand, only describe; what was decided stands "
            f"in {min(logs)}",
            "搜索按已有结果给看起来较好的设置增加了种子：此处的区间和结论以事先固定的种子数为前提，因此仅作描述；"
            f"搜索所作的决定见 {min(logs)}",
        )


def _data_changed(rows: Sequence[Row]) -> Iterator[Both]:
    """Whether files of one path held different data."""
    data: dict[Hashable, set[str]] = {}
    for row in rows:
        mark = row.run.known.get("data_sha256")
        if isinstance(mark, str):
            where = tuple((key, value) for key, value in row.run.settings.items() if key.startswith("data"))
            data.setdefault(where, set()).add(mark)
    if any(len(marks) > 1 for marks in data.values()):
        yield Both(
            "the content of the data files changed between the runs", "各次运行之间数据文件的内容有改动"
        )


def _unequal_splits(rows: Sequence[Row], varies: varying.Varying) -> Iterator[Both]:
    """Whether settings were run with different splits of the data."""
    if SPLIT not in varies.replicates:
        return
    place = varies.replicates.index(SPLIT)
    splits: dict[Values, set[Hashable]] = {}
    for row in rows:
        splits.setdefault(row.setting, set()).add(row.replicate[place])
    if len(set(map(frozenset, splits.values()))) > 1:
        yield Both(
            f"not all settings were run with the same {SPLIT}: some splits are harder than others",
            f"并非所有设置都用了相同的 {SPLIT}：有些划分比另一些更难",
        )


def refuse_several_data_sets(table: Table) -> None:
    """Refuses to compare values of different data sets.

    Raises:
        UsageError: the runs are of more than one.
    """
    for key in ("data", "data.path"):
        there = sorted({shown(row.run.settings.get(key)) for row in table.rows})
        if len(there) > 1:
            rule = f"values of different data sets cannot be compared; {key}={there[0]} takes the runs of one"
            raise UsageError([f"{key}: must be the same in all runs, but is {', '.join(there)}; {rule}"])


def notes_of(rows: Sequence[Row], varies: varying.Varying) -> tuple[Both, ...]:
    """What the runs themselves note: each distinct note once, with the runs that have it."""
    keys = (*varies.settings, *varies.replicates)
    runs = [
        (
            dict(zip(keys, (*row.setting, *row.replicate), strict=True)),
            notes.of_record(row.run.known),
        )
        for row in rows
    ]
    return tuple(note.both() for note in notes.grouped(runs))


def _changed_files(rows: Sequence[Row]) -> list[str]:
    """Files of code that were not the same in all runs which use them; other options use other files."""
    tables: dict[str, Mapping[str, str] | None] = {}
    for row in rows:
        code = row.run.known.get("code")
        if code is not None and tables.get(digest := hashes.digest(code)) is None:
            tables[digest] = hashes.table(code, row.folder)
    known: dict[str, set[str]] = {}
    for table in tables.values() if len(tables) > 1 else ():
        for name, of_file in (table or {}).items():
            known.setdefault(name, set()).add(of_file)
    return sorted(name for name, found in known.items() if len(found) > 1)
