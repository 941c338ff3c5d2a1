"""What overrides say, as keys and values by Hydra's grammar; an experiment among them by what it sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sweepwise.cli.options import Confs, named
from sweepwise.config.groups import EXPERIMENT

Pair = tuple[str, Any]  # a key as it is written, with + or ++ or ~, and its value


def pairs(confs: Confs, overrides: Sequence[str]) -> list[Pair]:
    """The overrides of a run, each as its key and its value.

    What an experiment sets stands before all others, as those count more.

    Args:
        confs: what Hydra finds.
        overrides: of a run that Hydra has composed, so none sweeps.

    Example:
        >>> confs = options.of_folder(Path("conf"))  # doctest: +SKIP
        >>> pairs(confs, ["regularizer=[l1,l2]", "+optimizer.eps=1e-3", "init='kaiming'"])  # doctest: +SKIP
        [('regularizer', ['l1', 'l2']), ('+optimizer.eps', 0.001), ('init', 'kaiming')]
    """
    parsed = confs.parsed(overrides)
    chosen = {one.key_or_group: one for one in parsed}.get(EXPERIMENT)
    own = [_pair(one) for one in parsed if one.key_or_group != EXPERIMENT]
    if chosen is None or chosen.is_delete() or chosen.value() is None:
        return own
    return [*(pair for option in named(chosen) for pair in _of(confs, f"{EXPERIMENT}/{option}")), *own]


def _pair(override: Override) -> Pair:
    return str(override.input_line).partition("=")[0], override.value()


def _of(confs: Confs, path: str) -> list[Pair]:
    """What an experiment sets, those first that count less."""
    return [*_choices(confs, path), *_values(confs, path)]


def _choices(confs: Confs, path: str) -> Iterator[Pair]:
    """The options that an experiment chooses, after those of the experiments that it is made from."""
    own: list[Pair] = []
    for entry in _defaults(confs, path):
        if (
            isinstance(entry, GroupDefault)
            and entry.group
            and (entry.override or entry.group.startswith("/"))
        ):
            package = f"@{entry.package}" if entry.package else ""
            sign = "" if entry.override else "+"
            own.append((f"{sign}{entry.group.lstrip('/')}{package}", entry.value))
        else:
            for inner in _inner(entry, path):
                yield from _choices(confs, inner)
    yield from reversed(own)  # of several for one group the first counts


def _values(confs: Confs, path: str) -> Iterator[Pair]:
    """The values that an experiment sets: its own last, unless its defaults list places them."""
    entries = _defaults(confs, path)
    for entry in entries:
        if entry.is_self():
            yield from _body(confs, path)
        for inner in _inner(entry, path):
            yield from _values(confs, inner)
    if not any(entry.is_self() for entry in entries):
        yield from _body(confs, path)


def _defaults(confs: Confs, path: str) -> Sequence[InputDefault]:
    loaded = confs.repository.load_config(path)
    return (loaded.defaults_list if loaded else None) or ()


def _inner(entry: InputDefault, path: str) -> Iterator[str]:
    """The experiments that an entry of a defaults list stands for."""
    home = path.rpartition("/")[0]
    if isinstance(entry, ConfigDefault) and entry.path and not entry.is_self():
        yield entry.path[1:] if entry.path.startswith("/") else f"{home}/{entry.path}"
    if (
        isinstance(entry, GroupDefault)
        and entry.group
        and not (entry.override or entry.group.startswith("/"))
    ):
        options = entry.value if isinstance(entry.value, list) else [entry.value]
        yield from (f"{home}/{entry.group}/{option}" for option in options if option)


def _is_within(entry: GroupDefault) -> bool:
    """Whether an entry names a group within that of its file: options of it are experiments themselves."""
    return not (entry.override or str(entry.group).startswith("/"))


def _body(confs: Confs, path: str) -> Iterator[Pair]:
    """What a file itself sets, key by key."""
    loaded = confs.repository.load_config(path)
    config = loaded.config if loaded else None
    plain = OmegaConf.to_container(config) if isinstance(config, DictConfig) else {}
    assert loaded and isinstance(plain, dict)
    package = loaded.header["package"]
    if package != "_global_":
        plain = {package or path.rpartition("/")[0].replace("/", "."): plain}
    yield from ((str(key), value) for key, value in plain.items())
