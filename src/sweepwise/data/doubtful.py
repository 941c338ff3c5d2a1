"""Notes about numbers of a csv file that may be none, as codes and versions are; by the file's beginning."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from sweepwise.data.columns import names_listed
from sweepwise.errors import shell_override

LOOKED_AT = 2**16  # bytes
CODE = re.compile(r"0[0-9]+")  # 02138
VERSION = re.compile(r"[0-9]+\.[0-9]+")  # 1.10
DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")  # 20240131
PLACEHOLDERS = ("?", "-", "--", ".", "*")  # that often stand for a missing value


def doubtful_numbers(
    path: Path, delimiter: str, header: Sequence[str], numbers: Collection[str]
) -> Iterator[str]:
    """Notes about columns of numbers whose cells are written as codes, dates or versions are.

    Args:
        path: of a csv file.
        delimiter: between the cells.
        header: the names of all columns.
        numbers: of those that became numbers.
    """
    cells = _beginning(path, delimiter, header)
    kinds: dict[str, list[str]] = {}
    for name in numbers:
        texts = cells.get(name, set())
        if any(map(CODE.fullmatch, texts)):
            kinds.setdefault("zeros in front, as codes have (02 is the number 2)", []).append(name)
        elif len(texts) > 1 and all(map(DAY.fullmatch, texts)):
            kinds.setdefault("whole numbers that look like dates (20240131)", []).append(name)
        elif all(map(VERSION.fullmatch, texts)) and len(set(map(float, texts))) < len(texts):
            kinds.setdefault("numbers written in two ways, as versions are (1.1 and 1.10)", []).append(name)
    for what, names in kinds.items():
        way = shell_override("data.categories", names[:10])
        yield f"{what}: {names_listed(names)}; taken as numbers; {way} makes them categories"


def _beginning(path: Path, delimiter: str, header: Sequence[str]) -> dict[str, set[str]]:
    """The different cells of each column in the whole rows at a file's beginning."""
    with path.open("rb") as file:
        text = file.read(LOOKED_AT).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()[1 : None if len(text) < LOOKED_AT else -1]
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if len(row) == len(header)]
    except csv.Error:  # what pyarrow has read all the same
        return {}
    columns = zip(*rows, strict=True) if rows else ()
    return {name: {cell.strip() for cell in cells} for name, cells in zip(header, columns, strict=False)}
