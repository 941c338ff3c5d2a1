"""One run as its folder tells it: its settings by key, its record, its metrics by epoch."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import yaml

from sweepwise.provenance.hashes import Hashes
from sweepwise.store import record
from sweepwise.store.folders import LINES, MEAN, RECORD
from sweepwise.store.request import NOT_IDENTITY, identity, keys
from sweepwise.store.status import current_status

CONFIG = "config.yaml"
OPTION_KEY = "_target_"
SPLIT = "data.split_seed"
BITS = 1023  # of a whole number that is surely below the largest float
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """A folder that holds no run that could be read; says which file and why."""


@dataclass(frozen=True)
class RunFolder:
    """A run, read from its folder alone.

    Attributes:
        folder: the run's.
        settings: of everything that can change its result, by key: 'init' is the option of a group,
            'optimizer.lr' a value in it. Lists are tuples.
        overridden: the keys that were given on the command line.
        known: its record.
        status: how it stands now.
        targets: what the option of each group names.
        guessed: groups whose option's own name is not known, as in runs made from Python.
        config: all that was set, as its folder has it.
    """

    folder: Path
    settings: Mapping[str, Hashable]
    overridden: frozenset[str]
    known: Mapping[str, Any] = field(repr=False)
    status: str
    targets: Mapping[str, str] = field(repr=False)
    guessed: frozenset[str] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Hash of what can change the result."""
        return str(self.known.get("id") or self.folder.name.rpartition("-")[2])


def folders(home: Path) -> Iterator[Path]:
    """The folders that hold a record: `home` or any below it whose name does not begin with a dot."""
    if os.path.isfile(home / RECORD):
        yield home
        return
    try:
        with os.scandir(home) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name[0] != "." and entry.name != MEAN and entry.is_dir()
            )
    except OSError:
        return
    for name in names:
        yield from folders(home / name)


def read(folder: Path) -> RunFolder:
    """Reads a run, which may be in training; what somebody still holds is not read again if it is the same.

    Raises:
        Unreadable: record or config is missing, damaged, not whole, or not what the run was trained with.
    """
    version = _version(folder)
    run = _held.get(version)
    if run is None:
        run = _read(folder)
        if version and run.known["status"] != "running":  # whether that is so, another file tells
            _held[version] = run
    return run


_held: WeakValueDictionary[object, RunFolder] = WeakValueDictionary()


def _version(folder: Path) -> object:
    """What another record or config of a run would change; None without them."""
    try:
        stats = [os.stat(f"{folder}/{name}") for name in (RECORD, CONFIG)]
    except OSError:
        return None
    times = [(one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats]
    return folder, *times


def _read(folder: Path) -> RunFolder:
    try:
        known = record.read(folder)
        text = (folder / CONFIG).read_text()
        blocks = _blocks(text)
        config = {key: value for block in blocks for key, value in _block(block).items()}
    except FileNotFoundError as error:
        raise Unreadable(f"{folder / CONFIG} is missing") from error
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    except yaml.YAMLError as error:
        raise Unreadable(f"{folder / CONFIG} is damaged ({str(error).splitlines()[0]})") from error
    if not known:
        raise Unreadable(f"{folder / RECORD} is missing")
    if known.get("id") and not record.from_python(known) and identity(config) != known["id"]:
        way_out = "restore it, or train the run again with fresh=true"
        raise Unreadable(f"{folder / CONFIG} was changed after the training; {way_out}")
    if isinstance(known.get("code"), dict):  # of an earlier version
        known["code"] = _once(tuple(known["code"].items()))
    overrides = known.get("overrides")
    overrides = [str(text) for text in overrides] if isinstance(overrides, list) else []
    chosen = _options(overrides) | _texts(known.get("choices"))
    settings = {key: value for block in blocks for key, value in _settings(block, _choices_in(block, chosen))}
    status = str(known["status"])
    targets = {
        key: str(node[OPTION_KEY])
        for key, node in config.items()
        if isinstance(node, dict) and OPTION_KEY in node
    }
    return RunFolder(
        folder,
        settings,
        frozenset(keys(overrides)),
        known,
        current_status(folder, known) if status == "running" else status,
        targets,
        frozenset(targets.keys() - chosen.keys()),
        config,
    )


def named_alike(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs, with the names of options that some of them know in place of those that were guessed."""
    if not any(run.guessed for run in runs):
        return list(runs)
    known: dict[tuple[str, str], set[Hashable]] = {}
    for run in runs:
        for key, value in run.settings.items():
            if key in run.targets and key not in run.guessed:
                known.setdefault((key, run.targets[key]), set()).add(value)
    named = []
    for run in runs:
        names = {
            key: next(iter(known[key, run.targets[key]]))
            for key in run.guessed
            if len(known.get((key, run.targets[key]), ())) == 1
        }
        named.append(replace(run, settings={**run.settings, **names}) if names else run)
    return named


@lru_cache(maxsize=256)
def _once(items: tuple[tuple[str, str], ...]) -> Hashes:
    """One table for all runs that have the same; it is most of such a record."""
    return Hashes(items)


def _texts(found: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _options(overrides: list[str]) -> dict[str, str]:
    """The values of overrides by key: for a group, the option."""
    return dict(zip(keys(overrides), (text.partition("=")[2] for text in overrides), strict=True))


def _blocks(text: str) -> list[str]:
    """A config, cut before each line that is not indented: into groups, which runs mostly share.

    Raises:
        yaml.YAMLError: it holds nothing.
    """
    blocks = re.split(r"^(?=[A-Za-z_])", text, flags=re.M)
    if not any(blocks):
        raise yaml.YAMLError("it holds no keys")
    try:
        for block in filter(None, blocks):
            _block(block)
    except yaml.YAMLError:  # written in another way than ours
        _block(text)
        return [text]
    return [block for block in blocks if block]


def _choices_in(block: str, chosen: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The options that were chosen of the group that a block is, and of groups in it."""
    group = block.partition(":")[0]
    return tuple(item for item in chosen.items() if item[0] == group or item[0].startswith(f"{group}."))


@lru_cache(maxsize=8192)
def _settings(block: str, chosen: tuple[tuple[str, str], ...]) -> tuple[tuple[str, Hashable], ...]:
    """What of a block can change a result, by key."""
    return tuple(_flat(_block(block), dict(chosen)))


@lru_cache(maxsize=8192)
def _block(text: str) -> dict[str, Any]:
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
        raise yaml.YAMLError(
            "it has aliases, which may stand for any amount, and the config of a run has none"
        )
    loader = _Loader(text)
    try:
        node = loader.get_single_data()
    finally:
        loader.dispose()
    if not isinstance(node, dict):
        raise yaml.YAMLError("it holds no keys")
    return node


def _flat(
    node: Mapping[str, Any], chosen: Mapping[str, str], above: str = ""
) -> Iterator[tuple[str, Hashable]]:
    """What can change a result, by key. A group's own key stands for its option."""
    for name, value in node.items():
        key = f"{above}{name}"
        if key in NOT_IDENTITY:
            continue
        if isinstance(value, dict):
            if option := _option(key, value, chosen):
                yield key, option
            yield from _flat(value, chosen, f"{key}.")
        elif name != OPTION_KEY:
            yield key, frozen(value)


def compared_keys(run: RunFolder) -> frozenset[str]:
    """The keys that were given on the command line of a run and can change its result, but for replicates."""
    return frozenset(
        key
        for key in run.overridden
        if not is_replicate(key) and NOT_IDENTITY.isdisjoint((key, key.partition(".")[0]))
    )


def is_replicate(key: str) -> bool:
    """Whether a key repeats a setting unless one says otherwise: seeds, and the split of the data."""
    return key.startswith("seed.") or key == SPLIT


def setting_of(config: Mapping[str, Any]) -> frozenset[tuple[str, Hashable]]:
    """What a run shares with those that only repeat it: what can change a result, without the replicates."""
    return frozenset(_leaves(config))


def _leaves(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Hashable]]:
    for name, value in node.items():
        key = f"{above}{name}"
        if key in NOT_IDENTITY or is_replicate(key):
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, frozen(value)


def _option(key: str, node: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    """The option of a group: as it was chosen, else by what it names. '' for what is no group."""
    target = str(node.get(OPTION_KEY, "")).rpartition(".")[2]
    parts = [name for name, part in node.items() if isinstance(part, dict) and OPTION_KEY in part]
    if not target and parts:  # options that act together, by their names
        return "+".join(map(str, parts))
    return chosen.get(key, target) if target else ""


def frozen(value: Any) -> Hashable:
    """A value of a config that can be a key: lists become tuples, whole numbers beyond floats texts."""
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((str(key), frozen(item)) for key, item in value.items())
    if isinstance(value, int) and value.bit_length() > BITS:
        return hex(value)
    return value


def shown(value: Hashable) -> str:
    """A value as it is written in an override; '-' for a key that a run's option does not have.

    Example:
        >>> [shown(value) for value in (0.01, True, None, "relu", (256, 128))]
        ['0.01', 'true', '-', 'relu', '[256,128]']
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run after each epoch that has ended, by tag, with 'epoch' and 'step'.

    A line that is not whole, as the last one may be while the run trains, is left out with all after it.
    """
    try:
        text = (folder / LINES).read_bytes()
    except OSError:
        return []
    found = []
    for line in text.split(b"\n")[:-1]:
        if b'"train/loss"' not in line and b'"val/loss"' not in line:
            continue  # of a batch
        try:
            values = json.loads(line)
        except ValueError:
            break
        if not isinstance(values, dict):
            break
        found.append(values)
    return found


def rates(folder: Path) -> dict[str, list[tuple[int, int, float]]]:
    """The learning rates that a run has logged, by name: of each its step, epoch (-1: unknown) and value."""
    try:
        lines = (folder / LINES).read_bytes().split(b"\n")[:-1]
    except OSError:
        return {}
    found: dict[str, list[tuple[int, int, float]]] = {}
    for line in lines:
        if b'"lr/' not in line:
            continue
        try:
            logged = json.loads(line)
        except ValueError:
            break
        if not isinstance(logged, dict) or not isinstance(logged.get("step"), int):
            break
        epoch = logged.get("epoch")
        for tag, value in logged.items():
            if tag.startswith("lr/") and type(value) in (int, float) and math.isfinite(value):
                at = epoch if isinstance(epoch, int) else -1
                found.setdefault(tag.removeprefix("lr/"), []).append((logged["step"], at, value))
    return found
