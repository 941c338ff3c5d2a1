"""Keys of Hydra's that say where to write: they have no effect here, so they are refused.

A run's folder follows from what the run is, and sweepwise makes it after every check. Hydra would make the
folders of its own keys beside it, and leave them empty.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise.cli.checks import interpolations
from sweepwise.config.groups import GROUPS
from sweepwise.store.request import name_fault, output_dir_fault

OURS = {  # as conf/train.yaml has them
    "run.dir": ".",
    "sweep.dir": "${output_dir}/${name}",
    "sweep.subdir": ".",
    "output_subdir": None,
    "job.chdir": None,
    "runtime.output_dir": "???",
}
UNSAID: dict[str, Any] = {  # what Hydra has where nobody says anything
    "run.dir": "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}",
    "sweep.dir": "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}",
    "sweep.subdir": "${hydra.job.num}",
    "output_subdir": ".hydra",
    "job.config.override_dirname": {"kv_sep": "=", "item_sep": ",", "exclude_keys": []},
}
ABOVE = "output_dir=FOLDER name=NAME says where"
RULES = {
    "run.dir": "a run's folder is in output_dir/name, by a name that follows from its config",
    "sweep.dir": "a sweep is written into output_dir/name",
    "sweep.subdir": f"a run's folder has a name that follows from its config; {ABOVE}",
    "output_subdir": f"a run's config and overrides are in its own folder; {ABOVE}",
    "job.chdir": f"runs are trained in the folder of the command; {ABOVE} they write",
    "runtime.output_dir": f"Hydra sets it itself; {ABOVE} to write",
    "job.name": "it names no file or folder here",
    "job.config.override_dirname": f"it names no folder here; {ABOVE} runs are written",
}
PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")  # what neither the shell nor Hydra reads as more than text


class Unheeded(HydraException):
    """A key of Hydra's was given that has no effect here; each fault is a line."""


def refuse_unheeded(config: DictConfig) -> None:
    """Refuses a composed config whose `hydra` part says where to write; what nobody has said becomes ours.

    Configs of other programs in this process are left alone.

    Raises:
        Unheeded: with every fault.
    """
    if not all(group in config for group in GROUPS):
        return
    if faults := [*_places(config), *_names(config)]:
        raise Unheeded("\n".join(faults))


def _places(config: DictConfig) -> Iterator[str]:
    given = OmegaConf.to_container(config.hydra, resolve=False)
    for key, ours in OURS.items():
        value = _at(given, key)
        if value == ours or (key == "job.chdir" and value is False):
            continue
        if value == UNSAID.get(key, ours):
            OmegaConf.update(config.hydra, key, ours)
        elif not _is_ours(config, key):
            yield _fault(key, value)


def _names(config: DictConfig) -> Iterator[str]:
    """Faults of keys by which Hydra makes names, unless the config itself uses those names."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    job = plain.pop("hydra")["job"]
    used = " ".join(interpolations(plain))
    if job["name"] != JobRuntime().get("name") and "job.name" not in used:
        yield _fault("job.name", job["name"])
    key = "job.config.override_dirname"
    for name, usual in UNSAID[key].items():
        if (value := job["config"]["override_dirname"][name]) != usual and "override_dirname" not in used:
            yield _fault(f"{key}.{name}", value)


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _is_ours(config: DictConfig, key: str) -> bool:
    """Whether a folder is the one that we have for a key, written in another way."""
    if key not in ("run.dir", "sweep.dir"):
        return False
    there, ours = config.copy(), config.copy()
    try:
        OmegaConf.update(ours.hydra, key, OURS[key])
        paths = [os.path.abspath(str(OmegaConf.select(one.hydra, key))) for one in (there, ours)]
    except OmegaConfBaseException:  # what it names is not known yet
        return False
    return paths[0] == paths[1]


def _fault(key: str, value: Any) -> str:
    rule = next(text for above, text in RULES.items() if key.startswith(above))
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    return f"hydra.{key}={shown}: has no effect, as {rule}{_instead(key, str(value))}"


def _instead(key: str, text: str) -> str:
    """What to give instead, as it can be pasted; '' if the rule has said it."""
    if key == "job.name":
        return f"; name={'NAME' if name_fault(text) else text} names the folder of an experiment"
    if key not in ("run.dir", "sweep.dir"):
        return ""
    if "${" in text or not text.strip("/.") or output_dir_fault(text):
        return f"; {ABOVE} to write"
    path = Path(text)
    if key == "sweep.dir" and not name_fault(path.name):
        return f"; {_override('output_dir', str(path.parent))} name={path.name} writes there"
    return f"; {_override('output_dir', text)} writes below it"


def _override(key: str, text: str) -> str:
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    return shlex.quote('{}="{}"'.format(key, text.replace("\\", "\\\\").replace('"', '\\"')))
