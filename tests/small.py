"""What many tests share: the files of the checkout, how its commands start, trainings of a moment."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
