"""Forked children: how they end, and how they die at a time or at an operation."""

import os
import signal
import sys
import time
from itertools import repeat

import pytest

from sweepwise.system import signals
from sweepwise.verify.fault_injection import Death, forked


@pytest.mark.parametrize(
    ("do", "code", "told"),
    [
        (lambda: print("done"), 0, "done\n"),
        (lambda: sys.exit(7), 7, ""),
        (lambda: sys.exit("text"), 1, ""),
        (lambda: 1 / 0, 1, "ZeroDivisionError: division by zero\n"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, ""),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, ""),
        (lambda: os.kill(os.getpid(), signal.SIGINT), 130, ""),
    ],
)
def test_children(tmp_path, do, code, told):
    assert forked(do, output=tmp_path / "output") == code
    assert (tmp_path / "output").read_text().endswith(told)


def wait():
    for _ in repeat(None):
        signal.pause()


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_death_by_time(kind, code):
    began = time.monotonic()
    assert forked(wait, Death(kind, seconds=0.05)) == code
    assert time.monotonic() - began >= 0.05


def test_a_child_that_ends_before_its_death():
    began = time.monotonic()
    assert forked(lambda: None, Death(seconds=600)) == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(("when", "left"), [("before", b""), ("half", b"01234"), ("after", b"0123456789")])
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_death_at_an_operation(tmp_path, when, left, kind):
    """The second of four; a signal that is only noted changes nothing."""
    path = tmp_path / "file"

    def write():
        with signals.StopFlag() as noted:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT)
            content = b"0123456789"
            while content:
                content = content[os.write(handle, content) :]
            os.fsync(handle)
            os.rename(path, tmp_path / "renamed")
        sys.exit(3 if noted() else 0)

    code = forked(write, Death(kind, operation=1, when=when))
    if kind == signal.SIGKILL:
        assert code == -9
        assert path.read_bytes() == left
    else:
        assert code == 3
        assert (tmp_path / "renamed").read_bytes() == b"0123456789"


def test_reading_is_no_operation(tmp_path):
    (tmp_path / "file").write_bytes(b"x")

    def read():
        os.close(os.open(tmp_path / "file", os.O_RDONLY))
        os.listdir(tmp_path)

    assert forked(read, Death(operation=0)) == 0
