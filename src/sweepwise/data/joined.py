"""Puts the rows of several files together, each of which is one part of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sweepwise.data.columns import Cells, Column, Table, Target, Text, names_listed
from sweepwise.errors import shell_override

PART = "the part of its file"  # the column that is added


def joined(tables: Mapping[str, Table], where: Mapping[str, str]) -> Table:
    """The rows of all files, and a column of the part that each file is.

    Args:
        tables: by the part, 'train' first; each with the target of the first.
        where: the config key and value of each file, for messages.

    Raises:
        ValueError: the files do not have the same columns, or not of the same kind.
    """
    first, *others = tables
    names = tables[first].features.keys()
    for part in others:
        if absent := names - tables[part].features.keys():
            raise ValueError(f"{where[part]}: lacks column {names_listed(sorted(absent))} of {where[first]}")
    features: dict[str, Column] = {
        name: _column(name, {where[part]: table.features[name] for part, table in tables.items()})
        for name in names
    }
    rows = [len(table.target.missing) for table in tables.values()]
    words = tuple(sorted(tables))
    features[PART] = Text(words, np.repeat([words.index(part) for part in tables], rows))
    target = _target(tables[first].name, {where[part]: table.target for part, table in tables.items()})
    notes = list(dict.fromkeys(note for table in tables.values() for note in table.notes))
    return Table(tables[first].name, target, features, notes)


def _column(name: str, columns: Mapping[str, Column]) -> Column:
    if all(isinstance(column, Text) for column in columns.values()):
        return _words([column for column in columns.values() if isinstance(column, Text)])
    for where, column in columns.items():
        if isinstance(column, Text):
            raise ValueError(
                f"{where}: column {name!r} holds text, such as {column.words[0]!r}, and numbers in another "
                f"file; {shell_override('data.categories', [name])} makes it categories in all"
            )
    return np.concatenate([np.asarray(column, np.float64) for column in columns.values()])


def _words(columns: Sequence[Text]) -> Text:
    words = sorted({word for column in columns for word in column.words})
    rank = {word: place for place, word in enumerate(words)}
    places = [np.array([*map(rank.__getitem__, column.words), -1])[column.places] for column in columns]
    return Text(tuple(words), np.concatenate(places).astype(np.int64))


def _target(name: str, targets: Mapping[str, Target]) -> Target:
    """The targets of all files; as text if those of one are text."""
    missing = np.concatenate([target.missing for target in targets.values()])
    cells = [target.cells for target in targets.values() if target.cells is not None]
    plain = [target.values for target in targets.values() if not isinstance(target.values, Text)]
    if len(plain) == len(targets):
        together = _cells(cells) if len(cells) == len(targets) else None
        return Target(_exactly(name, list(targets.values())), missing, together)
    texts = []
    for where, target in targets.items():
        if isinstance(target.values, Text):
            texts.append(target.values)
        elif target.cells is not None:
            texts.append(target.cells.text(where, name))
        else:
            raise ValueError(f"{where}: target {name!r} holds numbers here, and text in another file")
    return Target(_words(texts), missing)


def _exactly(name: str, targets: Sequence[Target]) -> np.ndarray:
    """The numbers of all files, none of them rounded."""
    values = [np.asarray(target.values) for target in targets]
    if {part.dtype.kind for part in values} == {"i", "u"}:  # which numpy would join as float64
        shown = [part[~target.missing] for part, target in zip(values, targets, strict=True)]
        least = min((int(part.min()) for part in shown if part.size), default=0)
        most = max((int(part.max()) for part in shown if part.size), default=0)
        if least < 0 and most > np.iinfo(np.int64).max:
            raise ValueError(f"target {name!r}: holds {least} in one file and {most} in another")
        return np.concatenate([part.astype(np.uint64 if least >= 0 else np.int64) for part in values])
    joined = np.concatenate(values)
    if joined.dtype.kind == "f":
        for part, target in zip(values, targets, strict=True):
            whole = part[~target.missing] if part.dtype.kind in "iu" else part[:0]
            if whole.size and max(abs(int(whole.min())), abs(int(whole.max()))) > 2**53:
                raise ValueError(
                    f"target {name!r}: holds whole numbers beyond 2^53 in one file and real numbers in "
                    "another; write them alike in all"
                )
    return joined


def _cells(parts: Sequence[Cells]) -> Cells:
    import pyarrow

    starts = np.cumsum([0, *(len(cells.words) for cells in parts)])
    places = [cells.places + start for cells, start in zip(parts, starts, strict=False)]
    return Cells(pyarrow.concat_arrays([cells.words for cells in parts]), np.concatenate(places))


def in_several_parts(x: np.ndarray, y: np.ndarray, parts: np.ndarray) -> list[str]:
    """A note if rows of the validation or test part are rows of the training part too, target included.

    Args:
        x: (rows, features) of float64.
        y: (rows,).
        parts: (rows,) 0 training, 1 validation, 2 test.
    """
    odd = np.random.default_rng(0).integers(0, 2**63, x.shape[1] + 1, np.uint64) * 2 + 1
    with np.errstate(over="ignore"):  # a hash of 64 bits, by which rows are told apart
        bits = np.ascontiguousarray(x + 0.0).view(np.uint64)  # 0 for -0
        mixed = (bits ^ (bits >> np.uint64(29))) @ odd[:-1]
        mixed += (y + 0.0).view(np.uint64) * odd[-1]
    again = np.isin(mixed[parts > 0], mixed[parts == 0])
    if not again.any():
        return []
    which = " and ".join(
        f"{count} of the {name} part"
        for number, name in ((1, "validation"), (2, "test"))
        if (count := int(again[parts[parts > 0] == number].sum()))
    )
    return [f"rows that the training part has too, with the same target: {which}; what they measure is known"]
