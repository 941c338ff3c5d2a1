"""Files that others publish: downloaded once, checked, and kept below one folder."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = "~/.cache/sweepwise"
VARIABLE = "SWEEPWISE_DATA"
TIMEOUT = 20  # seconds for a connection, and for the next bytes
LARGEST = 2**30  # bytes that are taken from a mirror, or looked at to say what a file is


@dataclass(frozen=True)
class Published:
    """A file as it is published.

    Attributes:
        name: of the file.
        sha256: of the file as the mirrors have it, in hex.
    """

    name: str
    sha256: str


def folder_of(data_set: str, root: str | None) -> Path:
    """Where a data set's files lie: below `root`, else $SWEEPWISE_DATA, else ~/.cache/sweepwise."""
    home = root if root is not None else os.environ.get(VARIABLE) or ROOT
    return Path(home).expanduser() / data_set


def is_there(path: Path) -> bool:
    """Whether a published file lies somewhere.

    Raises:
        ValueError: something else is in its place.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"data: {path}: must be a file: found a folder or device; remove it")
    return path.is_file()


def damaged(path: Path, fault: str, sha256: str = "") -> ValueError:
    """The error for a published file that is not as it was published.

    Args:
        path: of the file.
        fault: what is wrong.
        sha256: that the file must have, in hex; the one that it has is found out. '': the fault says it.
    """
    told = f"; it must have the sha256 {sha256}: found {_sha256(path)}" if sha256 else ""
    return ValueError(f"data: {path}: {fault}{told}; remove it to have it downloaded again")


def _sha256(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            return f"a file of {path.stat().st_size:,} bytes"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"what cannot be read ({error.strerror})"


def download(files: Sequence[Published], mirrors: Sequence[str], folder: Path) -> None:
    """Brings files into a folder; what fails leaves nothing behind.

    Args:
        files: what is wanted.
        mirrors: URLs of folders that have them, the first to be tried first; each ends in '/'.
        folder: made if need be; its name is the data set's.

    Raises:
        ValueError: no mirror gave a file with the right sha256; says why, and what to do without a network.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for file in files:
            reasons = []
            for mirror in mirrors:
                reason = _retrieve(file, mirror + file.name, folder)
                if not reason:
                    break
                reasons.append(f"{mirror}{file.name}: {reason}")
            else:
                names = ", ".join(wanted.name for wanted in files)
                raise ValueError(
                    f"data={folder.name}: {file.name} could not be downloaded ({'; '.join(reasons)}). "
                    f"Without a network put {names} into {folder}, or let data.root or ${VARIABLE} name a "
                    f"folder that has {folder.name}/ with them"
                )
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _retrieve(file: Published, url: str, folder: Path) -> str:
    """Downloads one file from one place; returns why it could not be had, or nothing."""
    import pooch

    timed = pooch.HTTPDownloader(timeout=TIMEOUT)

    def fetch(url: str, output: str, pup: Any) -> None:
        with open(output, "wb") as target:
            timed(url, _Bounded(target), pup)

    try:
        pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=fetch)
    except (OSError, ValueError) as error:  # requests' are OSErrors, a wrong sum is a ValueError
        cause: BaseException = error
        while cause.__context__ is not None:  # libraries wrap what the system said some layers deep
            cause = cause.__context__
        return " ".join(str(cause).split()) or type(cause).__name__
    return ""


class _Bounded:
    """A file that takes so many bytes and no more, however many a mirror sends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.flush = file.flush

    def write(self, content: bytes) -> int:
        if self._file.tell() + len(content) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        return self._file.write(content)
