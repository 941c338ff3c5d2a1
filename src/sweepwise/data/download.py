"""Published files of data sets: downloaded once, checked, and kept below one folder."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = "~/.cache/sweepwise"
VARIABLE = "SWEEPWISE_DATA"
TIMEOUT = 20  # seconds to wait for a connection, and for the next bytes
LARGEST = 2**30  # bytes that are downloaded at most, or read to compute a digest


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        name: of the file.
        sha256: hex digest of the file on the mirrors.
    """

    name: str
    sha256: str


def folder_of(data_set: str, root: str | None) -> Path:
    """The folder of a data set's files: below `root`, else $SWEEPWISE_DATA, else ~/.cache/sweepwise."""
    home = root if root is not None else os.environ.get(VARIABLE) or ROOT
    return Path(home).expanduser() / data_set


def is_there(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        ValueError: the path is a folder or device.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"data: {path}: must be a file, not a folder or device; remove it")
    return path.is_file()


def damaged(path: Path, fault: str, sha256: str = "") -> ValueError:
    """The error for a file that differs from the published one.

    Args:
        path: of the file.
        fault: what is wrong.
        sha256: hex digest that the file must have, which is compared in the message; '': it is not.
    """
    digests = f"; it must have the sha256 {sha256}: found {_sha256(path)}" if sha256 else ""
    return ValueError(f"data: {path}: {fault}{digests}; remove it, and it will be downloaded again")


def _sha256(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            return f"a file of {path.stat().st_size:,} bytes"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"


def download(files: Sequence[Published], mirrors: Sequence[str], folder: Path) -> None:
    """Downloads files into a folder; a failure leaves nothing behind.

    Args:
        files: to download.
        mirrors: URLs of folders that have the files, in the order in which they are tried; each ends in '/'.
        folder: created if needed; its name is the data set's.

    Raises:
        ValueError: no mirror had a file with the right sha256; with the reasons, and what to do offline.
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
                    f"Without a network put {names} into {folder}, or set data.root or ${VARIABLE} to a "
                    f"folder that contains {folder.name}/ with them"
                )
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _retrieve(file: Published, url: str, folder: Path) -> str:
    """Downloads one file from one URL; returns the reason of a failure, or ''."""
    import pooch

    timed = pooch.HTTPDownloader(timeout=TIMEOUT)

    def fetch(url: str, output: str, pup: Any) -> None:
        with open(output, "wb") as target:
            timed(url, _Bounded(target), pup)

    try:
        pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=fetch)
    except (OSError, ValueError) as error:  # OSErrors come from requests, a ValueError is a wrong digest
        cause: BaseException = error
        while cause.__context__ is not None:  # the first cause has the system's own message
            cause = cause.__context__
        return " ".join(str(cause).split()) or type(cause).__name__
    return ""


class _Bounded:
    """A file to write that refuses more than `LARGEST` bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.flush = file.flush

    def write(self, content: bytes) -> int:
        if self._file.tell() + len(content) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        return self._file.write(content)
