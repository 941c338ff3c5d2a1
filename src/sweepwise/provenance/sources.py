"""The files that can change a run: its source code, and the user's files that a config names."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweepwise.provenance.hashes import Hashes
from sweepwise.store.request import NOT_IDENTITY
from sweepwise.system import cache

HOME = Path(__file__).resolve().parents[1]  # of sweepwise
WHOLE_BYTES = 64 * 2**20  # a user's file up to this size is read as a whole, a larger one in samples
SAMPLE_BYTES = 2**16
SAMPLES = 64
KEPT = "code"  # what is remembered of our own files
SETTLED_NS = 2 * 10**9
_told: dict[Path, tuple[tuple[int, ...], str]] = {}  # of user's files, by which they were unchanged
# The modules that train a run; what they import can change it, and so can what a config names.
ROOTS = frozenset({"sweepwise.run.single", "sweepwise.run.group"})
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(sweepwise[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    r"|import[ \t]+(sweepwise[^\n]*))",
    re.MULTILINE,
)
FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)+", re.MULTILINE)  # is never executed


def code(targets: Iterable[str]) -> Hashes:
    """The source files that can change a run, with their hashes.

    Of sweepwise those that a run can reach: what trains it and what the targets name, with all that they
    import, also within functions. Every .py file of the other packages that hold targets, torch's aside (its
    version says enough). Neither the script that was started nor other modules that those import are among
    them.

    They are read once in a process, as loaded code stays the same: if a file is edited during a sweep, each
    run still records the code that it ran.

    Args:
        targets: a config's `_target_`s.

    Returns:
        The first 16 hex digits of the sha256 by path from the package on: 'sweepwise/trainer/loop.py'.
    """
    targets = list(targets)
    roots = {*ROOTS, *(target.rpartition(".")[0] for target in targets if target.startswith("sweepwise."))}
    return _code(tuple(code_folders(targets).values()), frozenset(roots))


@functools.cache
def _code(homes: tuple[Path, ...], roots: frozenset[str]) -> Hashes:
    """The hashes of what modules of sweepwise reach, whose folder comes first, and of all other folders."""
    ours, *others = homes
    hashes: dict[str, str] = {}
    for home in others:
        hashes |= _hashes(home)
    hashes |= _reached(ours, roots)
    return Hashes(sorted(hashes.items()))


def _reached(home: Path, roots: frozenset[str]) -> Mapping[str, str]:
    """The hashes of the files that modules of a package reach; kept while no file of it has changed.

    Nothing is kept of files that were changed a moment ago: a second change might leave all their times.
    """
    stats = [(path, os.stat(path)) for path in sorted(_sources(home))]
    versions = [(path, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for path, at in stats]
    question = [sorted(roots), versions]
    if known := cache.recall(KEPT, question):
        return dict(known)
    hashes = {name: _hash(home.parent / name) for name in reachable(home, roots)}
    changed = max((max(at.st_mtime_ns, at.st_ctime_ns) for _, at in stats), default=0)
    if time.time_ns() - changed > SETTLED_NS:
        cache.keep(KEPT, question, sorted(hashes.items()))
    return hashes


def code_folders(targets: Iterable[str]) -> dict[str, Path]:
    """The folders of sweepwise and of the packages that hold the targets, by name; of a module its file.

    Imports none of them.
    """
    folders = {"sweepwise": HOME}
    for root in sorted({target.split(".")[0] for target in targets} - {"torch", "sweepwise"}):
        try:
            spec = importlib.util.find_spec(root)
        except (ImportError, ValueError):
            spec = None
        if spec and spec.submodule_search_locations:
            folders[root] = Path(next(iter(spec.submodule_search_locations))).resolve()
        elif spec and spec.has_location and spec.origin:
            folders[root] = Path(spec.origin).resolve()
    return folders


@functools.cache
def reachable(home: Path, roots: frozenset[str]) -> frozenset[str]:
    """The files of a package that modules of it can reach by imports, as 'sweepwise/trainer/loop.py'.

    Args:
        home: the folder of sweepwise, or of a copy.
        roots: names of modules.
    """
    files = {_module(name): name for path in _sources(home) if (name := path[len(str(home.parent)) + 1 :])}
    seen: set[str] = set()
    left = set(roots)
    while left:
        name = left.pop()
        if name not in files or name in seen:  # a name within a module is no module
            continue
        seen.add(name)
        left.add(name.rpartition(".")[0])
        left.update(_imported((home.parent / files[name]).read_text(encoding="utf-8")))
    return frozenset(files[name].replace(os.sep, "/") for name in seen)


def _module(file_name: str) -> str:
    return file_name.removesuffix(".py").removesuffix(f"{os.sep}__init__").replace(os.sep, ".")


def _imported(text: str) -> Iterator[str]:
    """What a file's text imports of sweepwise. Ten times as fast as Python's own parser, for 100 files."""
    for module, names, modules in IMPORT.findall(FOR_TYPES.sub("", text)):
        yield from re.findall(r"sweepwise[\w.]*", modules)
        if module:
            yield module
            yield from (
                f"{module}.{name}" for name in re.findall(r"\w+", re.sub(r"#.*|\bas\s+\w+", "", names))
            )


def _sources(home: Path) -> Iterator[str]:
    """The paths of source files; as texts, since objects for them would cost more than reading them."""
    if home.is_file():
        yield str(home)
    for folder, folders, names in os.walk(home):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))


@functools.cache
def _hashes(home: Path) -> Mapping[str, str]:
    paths = map(Path, _sources(home))
    return {path.relative_to(home.parent).as_posix(): _hash.__wrapped__(path) for path in paths}


@functools.cache
def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """The user's own files that a config names, such as `data.path` or `init.path`, with what is in them.

    Args:
        config: the resolved config, plain values.

    Returns:
        By 'data.path=FILE' the number of bytes and the first 16 hex digits of the sha256; of more than 64 MiB
        that of 64 pieces of 64 KiB, evenly spread from the first to the last byte.
    """
    return {f"{key}={value}": _content(Path(value)) for key, value in _named(config)}


def _named(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        text = isinstance(value, str)
        if not (text or isinstance(value, Mapping)):
            continue
        path = f"{above}{key}"
        if path in NOT_IDENTITY or key == "_target_":
            continue
        if not text:
            yield from _named(value, f"{path}.")
        elif "\0" not in value and os.path.isfile(value):
            yield path, value


def _content(path: Path) -> str:
    """What is told of a file's content; that of an unchanged file is not read again for each run of a sweep.

    A file counts as unchanged by its times, if these had been over for a while when it was read: another
    change within the same tick of the clock would not show in them.
    """
    now, status = time.time_ns(), path.stat()
    mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if (known := _told.get(path)) and known[0] == mark:
        return known[1]
    told = _read(path)
    if now - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS:
        _told[path] = mark, told
    return told


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= WHOLE_BYTES:
            digest.update(file.read())
        else:
            for piece in range(SAMPLES):
                file.seek(piece * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return f"{size} bytes, {'' if size <= WHOLE_BYTES else 'sample '}{digest.hexdigest()[:16]}"
