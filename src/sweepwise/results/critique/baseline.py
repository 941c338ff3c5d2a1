"""A sweep without the defaults, against which a gain could be measured."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from sweepwise.results.answer import Answer
from sweepwise.results.critique.finding import Finding
from sweepwise.results.further_runs import one_command, replicates_of, script_of
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import frozen, shown
from sweepwise.results.table import Row

EXPERIMENT = "experiment"  # whole settings, which have defaults of their own
UNKNOWN = object()
Default = Callable[[Row, str], Any]  # of a key in a run; UNKNOWN where it is not known


def no_baseline(answer: Answer, default: Default) -> Iterator[Finding]:
    """Whether no setting has the defaults of all keys that were swept, so that what tuning gained is unknown.

    A key is at its default where it was not given, or was given as the config has it. Where its default is
    not known, such as without `conf/` beside the program, it may be at it: then nothing is said.
    """
    table = answer.table
    cells = {setting: rows[0] for setting, rows in table.cells.items()}
    if not table.settings or not any(row.run.overridden for row in cells.values()):
        return  # results from elsewhere, of which no default is known
    if len({_experiment(row) for row in cells.values()}) > 1:
        return
    at_default = {
        setting: [_may_be_default(row, key, default) for key in table.settings]
        for setting, row in cells.items()
    }
    if any(all(known) for known in at_default.values()):
        return
    missing = [
        key
        for place, key in enumerate(table.settings)
        if not any(known[place] for known in at_default.values())
    ]
    if not missing and any(default(row, key) is UNKNOWN for row in cells.values() for key in table.settings):
        return
    some = next((ranked.setting for ranked in answer.ranking), next(iter(cells)))
    dropped = dict.fromkeys(table.settings)
    command = one_command(table, [some], dropped, replicates_of(table, [some]))
    keys = missing or list(table.settings)
    values = {key: default(cells[some], key) for key in keys}
    named = ", ".join(key if value is UNKNOWN else f"{key}={shown(value)}" for key, value in values.items())
    there = len(table.cells)
    yield Finding(
        "no baseline",
        Both(
            f"no run has the defaults ({named}), so what tuning gains is unknown: add them",
            f"没有一次运行使用默认设置（{named}），因此不知道调参带来了多少改善：请加上默认设置",
        ),
        Both(
            f"the default of {', '.join(missing)} is not among the values of {there} settings"
            if missing
            else f"each default is there, but not all together in one of {there} settings",
            f"{there} 个设置中没有 {', '.join(missing)} 的默认值"
            if missing
            else f"各个默认值都出现过，但 {there} 个设置中没有一个全部取默认值",
        ),
        command,
    )


def _may_be_default(row: Row, key: str, default: Default) -> bool:
    if key not in row.run.overridden:
        return True
    known = default(row, key)
    return known is UNKNOWN or bool(known == row.run.settings.get(key))


def _experiment(row: Row) -> str:
    given = row.run.known.get("overrides")
    found = (
        [str(text) for text in given if str(text).startswith(f"{EXPERIMENT}=")]
        if isinstance(given, list)
        else []
    )
    return found[0] if found else ""


def from_conf(row: Row, key: str) -> Any:
    """The default of a key by the files of `conf/` beside the program that trained a run, where they are."""
    if _experiment(row):
        return UNKNOWN
    conf = Path(script_of(row.run)).absolute().parent / "conf"
    group, _, name = key.partition(".")
    options = _options(conf)
    if not name:
        return options.get(group, UNKNOWN)
    option = row.run.settings.get(group)
    node = _yaml(conf / group / f"{option}.yaml")
    if not node and "." in name:  # options that act together, each with keys of its own
        option, _, name = name.partition(".")
        node = _yaml(conf / group / f"{option}.yaml")
    value: Any = node
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return UNKNOWN
        value = value[part]
    return UNKNOWN if isinstance(value, (Mapping, str)) and "${" in str(value) else frozen(_number(value))


def _number(value: Any) -> Hashable:
    """YAML 1.1 reads 1e-3 as text, and Hydra as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _options(conf: Path) -> dict[str, str]:
    """The option of each group that train.yaml chooses."""
    chosen: dict[str, str] = {}
    for entry in _yaml(conf / "train.yaml").get("defaults", ()):
        if isinstance(entry, dict):
            chosen |= {str(group): str(option) for group, option in entry.items() if option is not None}
    return chosen


@lru_cache(maxsize=256)
def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
