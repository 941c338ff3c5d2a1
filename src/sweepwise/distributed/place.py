"""Which of the processes that train one run this one is, by torchrun's variables; needs no torch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from sweepwise.errors import UsageError

NEEDED = ("MASTER_ADDR", "MASTER_PORT")
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
PORTS = range(1, 65536)
WAY_OUT = "torchrun sets these variables; to train in a single process, unset WORLD_SIZE"
LINGER_SECONDS = 1.0  # for rank 0 to print an error that all processes found before they were connected
NAMING_SECONDS = 30.0  # until the name of rank 0's machine resolves: a cluster may still be starting it


class Place(NamedTuple):
    """Which of the processes this one is.

    Attributes:
        rank: its number; rank 0 has the folder, writes and prints.
        size: how many processes there are.
        local_rank: its number among those of this machine.
    """

    rank: int
    size: int
    local_rank: int


def place(variables: Mapping[str, str] = os.environ) -> Place:
    """This process's place by RANK, WORLD_SIZE and LOCAL_RANK; without WORLD_SIZE it is a single process.

    Raises:
        UsageError: lists every variable that is not a number, out of its range or missing. Whether
            MASTER_ADDR resolves is checked in `join_world`, since that may take time.
    """
    faults: list[str] = []
    size = _number(variables, "WORLD_SIZE", 1, faults, least=1)
    if not variables.get("WORLD_SIZE"):
        return Place(0, 1, 0)
    rank = _number(variables, "RANK", 0, faults)
    local_rank = _number(variables, "LOCAL_RANK", rank, faults)
    if size > 1:
        _number(variables, "MASTER_PORT", PORTS[0], faults, least=PORTS[0], most=PORTS[-1])
        host = variables.get("MASTER_ADDR", "")
        if host and not _is_host(host):
            faults.append(f"MASTER_ADDR={host}: must be the name or the address of rank 0's machine")
    if not faults:
        faults = [
            f"{name}={number}: must be below WORLD_SIZE={size}"
            for name, number in (("RANK", rank), ("LOCAL_RANK", local_rank))
            if number >= size and variables.get(name)
        ]
    missing = [name for name in ("RANK", *NEEDED) if size > 1 and not variables.get(name)]
    if missing:
        faults.append(f"WORLD_SIZE={size}: needs {', '.join(missing)} to be set too")
    if faults:
        raise UsageError([f"{fault}; {WAY_OUT}" for fault in faults])
    return Place(rank, size, local_rank) if size > 1 else Place(0, 1, 0)


def _number(
    variables: Mapping[str, str],
    name: str,
    default: int,
    faults: list[str],
    *,
    least: int = 0,
    most: int | None = None,
) -> int:
    """A variable's value; the default if it is missing or wrong, and wrong ones are added to `faults`."""
    text = variables.get(name, "")
    if not text:
        return default
    if WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= (int(text) if most is None else most):
        return int(text)
    span = f">= {least}" if most is None else f"from {least} to {most}"
    faults.append(f"{name}={text}: must be a whole number {span}")
    return default


def _is_host(text: str) -> bool:
    """Whether a text has the form of a host name or an address."""
    try:
        text.encode("idna")
    except UnicodeError:  # such as two dots in a row
        return False
    return text.isprintable() and not any(map(str.isspace, text))


def await_name(host: str, port: int) -> None:
    """Waits until the name of rank 0's machine resolves on this one.

    Raises:
        UsageError: it does not within `NAMING_SECONDS`.
    """
    import socket  # takes 10 ms, which a single process need not spend

    deadline = time.monotonic() + NAMING_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UsageError(
                    [
                        f"MASTER_ADDR={host}: must be a name or an address that this machine can resolve "
                        f"({error.strerror}); {WAY_OUT}"
                    ]
                ) from error
        time.sleep(0.1)


def is_led() -> bool:
    """Whether this is not rank 0, so that rank 0 prints an error that all processes find."""
    try:
        return place().rank > 0
    except UsageError:  # the variables differ from process to process, so each prints its own error
        return False


def quieten() -> None:
    """Silences torch's C++ warnings where several processes train: our own line reports a lost process.

    Call it before torch is imported.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def linger() -> None:
    """Gives rank 0 time to print an error that all processes found before they were connected.

    A launcher kills all processes once one has ended.
    """
    with suppress(KeyboardInterrupt):
        time.sleep(LINGER_SECONDS)
