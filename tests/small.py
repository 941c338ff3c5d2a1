"""What many tests share: the files of the checkout, how its commands start, trainings of a moment."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from hydra_plugins.sweepwise_plugins._compose import _Composer
from sweepwise.cli import guard
from sweepwise.config.drawn import SEARCH
from sweepwise.store.request import Request

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
TRAIN = str(ROOT / "train.py")
# In which a process finds the package of this checkout.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

# Overrides of trainings that take a moment.
WINE = ["data=wine", "trainer.device=cpu"]
TINY = [*WINE, "model.hidden=[8]"]
PLAIN = ["early_stop=none", "progress=false"]
SMALL = [*WINE, "model.hidden=[16]", *PLAIN]


def option_of(path: Path) -> dict[str, Any]:
    """What the yaml of an option sets: without the ranges that it says."""
    content = yaml.safe_load(path.read_text()) or {}
    return {key: value for key, value in content.items() if key != SEARCH}


@functools.cache
def _composer() -> _Composer:
    guard.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return _Composer(loader, loader.load_configuration("train", [], RunMode.MULTIRUN))


def composed(*overrides: str) -> Request:
    """The run that overrides describe, composed as a sweep's are: what is chosen alike is composed once.

    tests/test_compose.py holds that Hydra composes the same, at 80 ms for each.
    """
    return _composer().request(overrides, 0)


def without(what: str) -> None:
    """Skips; but CI has everything, so there it is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {what}", pytrace=False)
    pytest.skip(what)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory, in a new folder; unmounted even if a process still has a file of it open."""
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Gives what is mounted on a folder other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
