"""The options of the config groups and their keys, read from the files in conf/."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sweepwise.config import allowlist
from sweepwise.errors import UsageError


def folders(conf: Path, arguments: Sequence[str]) -> list[Path]:
    """The folders of the config groups: ours, and those that `hydra.searchpath` adds on a command line.

    Raises:
        UsageError: an added folder does not exist.
    """
    added = [a.partition("=")[2] for a in arguments if a.lstrip("+").startswith("hydra.searchpath=")]
    return [
        conf,
        *(search_path_folder(str(entry)) for entry in (yaml.safe_load(added[-1]) or [] if added else [])),
    ]


def search_path_folder(entry: str) -> Path:
    """The folder that an entry of Hydra's search path names: pkg://package.conf or file://folder.

    Raises:
        UsageError: it does not exist, or is in a package that is not allowed.
    """
    scheme, _, name = entry.rpartition("://")
    try:
        allowlist.refuse_package(entry)
    except ValueError as error:
        raise UsageError([f"hydra.searchpath: {error}"]) from error
    try:
        spec = importlib.util.find_spec(name) if scheme == "pkg" else None
    except ImportError:
        spec = None
    within = spec.submodule_search_locations if spec else None
    path = Path(next(iter(within))) if within else Path(name)
    if scheme not in ("pkg", "file", "") or not path.is_dir():
        raise UsageError(
            [f"hydra.searchpath: {entry} does not exist; write pkg://PACKAGE.conf or file://FOLDER"]
        )
    return path


def options_of(confs: Sequence[Path], group: str) -> list[str]:
    """The options of a group in all folders, sorted."""
    return sorted({path.stem for conf in confs for path in (conf / group).glob("*.yaml")})


def file_of(confs: Sequence[Path], group: str, option: str) -> Path:
    """The file of an option: in the first folder that has it, as Hydra searches them."""
    paths = [conf / group / f"{option}.yaml" for conf in confs]
    return next((path for path in paths if path.exists()), paths[0])


def default_options(confs: Sequence[Path]) -> dict[str, str]:
    """The option of each group that train.yaml chooses."""
    chosen: dict[str, str] = {}
    for entry in load_yaml(confs[0] / "train.yaml")["defaults"]:
        if isinstance(entry, dict):
            chosen |= {str(group).removeprefix("override "): option for group, option in entry.items()}
    return chosen


def values_of(confs: Sequence[Path], group: str, option: str) -> dict[str, Any]:
    """The keys of an option with their values, including those from the options in its defaults list."""
    content = load_yaml(file_of(confs, group, option))
    values: dict[str, Any] = {}
    for other in content.pop("defaults", []):
        values |= values_of(confs, group, other) if other != "_self_" else {}
    return values | {key: value for key, value in content.items() if key != "_target_"}


def load_yaml(path: Path) -> dict[str, Any]:
    """The content of a yaml file; {} of an empty one."""
    return yaml.safe_load(path.read_text()) or {}
