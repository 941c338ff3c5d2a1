"""A request for a run: its config, its id, and the name and path of its folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sweepwise.store import listing

NAME_BYTES = 120  # of one level of a path; file systems take 255, encrypted ones about 140
SEED_LETTERS = 20  # of the seed in a name; no seed has more than ten digits
LEVEL_BYTES = 255  # of one level of output_dir
BETWEEN = "__"  # the words of a name; a comma would part those of TensorBoard's --logdir_spec
OMITTED = ".."  # stands for the middle of a word
PLAIN = frozenset({str, int, float, bool, list, tuple, type(None)})  # kinds of most values in a config
LEAST_LETTERS = 12  # of a word of which the middle is left out

SAFE_NAME = re.compile(r"[A-Za-z0-9_.+=-]*[A-Za-z0-9_+=-]")

# Keys or whole groups that cannot change a run's result, so they are no part of its identity.
NOT_IDENTITY = frozenset(
    {
        "name",  # where results go
        "output_dir",  # where results go
        "fresh",  # whether an earlier result is used, not what it is
        "accept_changes",  # whether an earlier result is used, not what it is
        "progress",  # what a terminal shows
        "report",  # whether the page of a sweep is written when it has ended
        "mean_runs",  # whether a sweep writes means over runs that have ended
        "monitor",  # only observes, and draws no random numbers; test_run trains with and without it
        "checkpoint",  # when state is written; a training that goes on from it ends with the same bits
        "trainer.parallel",  # changes only rounding, as the number of processes does; the record names both
        "trainer.pause_after",  # when one attempt ends; the run goes on from there to the same bits
        "trainer.workers",  # which process collects a batch; its examples are chosen before
        "data.root",  # where published files are kept, whose sha256 is in the code
    }
)


def identity(config: Mapping[str, Any]) -> str:
    """A short hash of all that can change the result, 8 hex digits.

    Paths of the user's own files (`data.path`, `init.path`) count as they are written, so a folder that moves
    with its project stays the same run. What the files hold is compared by `provenance.changes`.

    Args:
        config: the resolved config, plain values.
    """
    return hashlib.sha256(json.dumps(identity_part(config), sort_keys=True).encode()).hexdigest()[:8]


def identity_part(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """What of a config can change the result; `above` is where a node stands, with a dot behind."""
    return {
        str(key): identity_part(value, f"{above}{key}.") if _is_mapping(value) else value
        for key, value in node.items()
        if f"{above}{key}" not in NOT_IDENTITY
    }


def _is_mapping(value: Any) -> bool:
    """As `isinstance` says of a Mapping, at a tenth of the time for what configs hold."""
    kind = type(value)
    return kind is dict or (kind not in PLAIN and isinstance(value, Mapping))


def folder_name(overrides: Sequence[str], seed: int, run_id: str, varying: Collection[str] = ()) -> str:
    """A readable name for a run's folder: what was overridden, the seed last, and the id.

    What does not fit is shortened: the groups of keys are left out, then overrides that all runs of a sweep
    have, and at last the middle of the longest words.

    Args:
        overrides: as given on the command line, such as 'init=xavier'.
        seed: the run's seed.
        run_id: from `identity`.
        varying: keys in which the runs of a sweep differ; they come first.

    Returns:
        ASCII, at most 120 bytes, safe as a level of a path: 'init=xavier__scheduler=step__seed=0-1a2b3c4d'.
    """
    named = [
        (key, readable(override))
        for key, override in zip(keys(overrides), overrides, strict=True)
        if NOT_IDENTITY.isdisjoint((key, key.split(".")[0])) and key not in ("seed", "seed.value")
    ]
    named = [(key, word) for key, word in named if word]
    first = {key: word for key, word in named if key in varying} or dict(named)
    others = {key: word for key, word in named if key not in first}
    # A value that will be refused may be anything.
    tail = f"seed={readable(str(seed))[:SEED_LETTERS]}-{run_id}"
    words = _fitted(first, others, NAME_BYTES - len(tail) - len(BETWEEN))
    return BETWEEN.join([*words, tail])


def _fitted(first: Mapping[str, str], others: Mapping[str, str], room: int) -> list[str]:
    """As much of the words of overrides, by their keys, as fits; of `first` each has a part.

    Args:
        first: words that are kept.
        others: words that follow, as far as there is room.
        room: bytes of all, with what is between them.
    """
    whole = [*first.values(), *others.values()]
    if _length(whole) <= room:
        return whole
    short = _without_groups({**first, **others})
    words = [short[key] for key in first]
    while words and (limit := _limit(words, room)) < LEAST_LETTERS:
        words.pop()
    words = [word if len(word) <= limit else _cut(word, limit) for word in words]
    for key in others:
        if _length([*words, short[key]]) <= room:
            words.append(short[key])
    return words


def _length(words: Sequence[str]) -> int:
    return len(BETWEEN.join(words))


def _without_groups(words: Mapping[str, str]) -> dict[str, str]:
    """The words without the groups of their keys, 'lr=0.1', where that leaves the keys apart."""
    inner = {key: key.partition(".")[2] if not key.startswith("seed.") else "" for key in words}
    often = Counter([*words, *inner.values()])
    return {
        key: word.partition(".")[2] if inner[key] and often[inner[key]] == 1 else word
        for key, word in words.items()
    }


def _limit(words: Sequence[str], room: int) -> int:
    """The most letters that each of the words may have, so that all fit."""
    left = room - len(BETWEEN) * (len(words) - 1)
    lengths = sorted(map(len, words))
    for place, length in enumerate(lengths):
        if length * (len(words) - place) > left:
            return max(0, left // (len(words) - place))
        left -= length
    return room


def _cut(word: str, letters: int) -> str:
    """A word without its middle; its ends tell most."""
    kept = letters - len(OMITTED)
    return word[: kept - kept // 2] + OMITTED + word[len(word) - kept // 2 :]


def readable(text: str) -> str:
    """A text as part of a folder's name: other letters than those of a safe name become '_'."""
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "_", text).strip("_")


def keys(overrides: Sequence[str]) -> list[str]:
    """What each override sets: 'init=xavier' sets 'init'."""
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def find_folder(
    home: Path, overrides: Sequence[str], seed: int, run_id: str, varying: Collection[str] = ()
) -> Path:
    """The folder of a run: the one whose name ends with its id, or a new name if there is none."""
    name = (
        listing.still_there(home, run_id)
        or listing.names(home).get(run_id)
        or folder_name(overrides, seed, run_id, varying)
    )
    return home / name


def known_folders(home: Path) -> dict[str, Path]:
    """The folders of all runs of an experiment, by their ids; as `find_folder` finds each."""
    return {run: home / name for run, name in listing.names(home).items()}


@dataclass(frozen=True)
class Request:
    """A run that a person asks for: its config, and how it was written on the command line.

    Attributes:
        config: resolved, plain values.
        overrides: what was said on the command line; names the folder.
        choices: the option chosen of each config group.
        varying: keys in which the runs of its sweep differ; they come first in the folder's name.
    """

    config: Mapping[str, Any]
    overrides: Sequence[str] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    varying: Sequence[str] = field(default=(), compare=False)

    @cached_property
    def id(self) -> str:
        """Hash of what can change the result."""
        return identity(self.config)

    @property
    def unpaused(self) -> Request:
        """The run itself: without where an attempt at it pauses."""
        trainer = {**self.config["trainer"], "pause_after": None}
        given = zip(keys(self.overrides), self.overrides, strict=True)
        overrides = [text for key, text in given if key != "trainer.pause_after"]
        return replace(self, config={**self.config, "trainer": trainer}, overrides=overrides)

    @cached_property
    def targets(self) -> list[str]:
        """Every `_target_` in the config: the code that it names."""
        return sorted(set(_targets(self.config)))

    @cached_property
    def home(self) -> Path:
        """The folder of the experiment, which holds those of its runs."""
        return Path(self.config["output_dir"]) / str(self.config["name"])

    @property
    def folder(self) -> Path:
        """The run's folder; looked up each time, as another process may have made it under another name."""
        return find_folder(self.home, self.overrides, self.config["seed"]["value"], self.id, self.varying)

    @property
    def new_folder(self) -> Path:
        """The folder that will be made for the run if it has none yet."""
        name = folder_name(self.overrides, self.config["seed"]["value"], self.id, self.varying)
        return self.home / name


def _targets(node: Mapping[str, Any]) -> Iterator[str]:
    for key, value in node.items():
        if _is_mapping(value):
            yield from _targets(value)
        elif key == "_target_":
            yield str(value)


def name_fault(name: str) -> str:
    """Why a name cannot be that of an experiment's folder; '' if it can."""
    if not SAFE_NAME.fullmatch(name):
        return f"name={_shown(name)}: must consist of letters, digits and . _ + - =, and must not be a path"
    if len(name) > NAME_BYTES:
        return f"name={_shown(name)}: must have at most {NAME_BYTES} characters, not {len(name)}"
    return ""


def output_dir_fault(output_dir: str) -> str:
    """Why a path cannot be that of a folder; '' if it can."""
    rule = f"output_dir={_shown(output_dir)}: must"
    if not output_dir.strip():
        return f"{rule} be a folder; . is the current one"
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", output_dir):
        return f"{rule} hold no control characters and be valid UTF-8"
    longest = max(len(os.fsencode(level)) for level in output_dir.split("/"))
    if longest > LEVEL_BYTES:
        return f"{rule} have at most {LEVEL_BYTES} bytes between two slashes, not {longest}"
    return ""


def _shown(text: str) -> str:
    """A text shortened to 60 characters of one line, so that it can be printed."""
    plain = text if text.isprintable() else repr(text)[1:-1]
    return plain if len(plain) <= 60 else f"{plain[:57]}..."
