"""Commands of the checkout in processes of their own: forked, not executed, as torch is imported then.

A process of Python takes 1.5 s of a core before it can train; a fork of the one that tests has imported
everything. All else is as in a new process: files, signals, session, environment and standard streams are
those that `subprocess` sets up. Not for tests of the start itself, of what is imported, or of how the
interpreter ends; and what a test has patched by then is patched in the command too.
"""

import atexit
import contextlib
import faulthandler
import functools
import logging
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import util
from typing import Any, NoReturn

import torch
from hydra.core.global_hydra import GlobalHydra
from small import ENVIRONMENT, TINY, composed

from sweepwise.run import build, load


def popen(words: Sequence[object], env: Mapping[str, Any] = ENVIRONMENT, **options: Any) -> subprocess.Popen:
    """`subprocess.Popen` of Python with a script and its arguments."""
    return subprocess.Popen(**_started(words, env), **options)


def run(
    words: Sequence[object], env: Mapping[str, Any] = ENVIRONMENT, **options: Any
) -> subprocess.CompletedProcess:
    """`subprocess.run` of Python with a script and its arguments; returns what it prints as text."""
    return subprocess.run(**_started(words, env), **{"capture_output": True, "text": True} | options)


def _started(words: Sequence[object], env: Mapping[str, Any]) -> dict[str, Any]:
    _imported()
    argv = [str(word) for word in words]
    env = {name: os.fspath(value) for name, value in env.items()}
    return {"args": [sys.executable, *argv], "preexec_fn": functools.partial(_live, argv, env)}


@functools.cache
def _imported() -> None:
    """What each command would import again, and find: Hydra its plugins."""
    load.trainer()
    build(composed(*TINY))


def _live(argv: list[str], env: Mapping[str, Any]) -> NoReturn:
    """Does what the interpreter would do, from its start to its end."""
    code = 1
    try:
        _begin(argv, env)
        code = _exit_code(functools.partial(runpy.run_path, argv[0], run_name="__main__"))
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _begin(argv: list[str], env: Mapping[str, Any]) -> None:
    """Makes this fork of a test a process like a new one."""
    faulthandler.disable()
    atexit._clear()
    util._finalizer_registry.clear()  # as multiprocessing does in a fork of its own
    util._run_after_forkers()
    _close_inherited()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    tempfile.tempdir = None  # TMPDIR may be another
    logging.root.handlers.clear()
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_default_dtype(torch.float32)
    GlobalHydra.instance().clear()


def _close_inherited() -> None:
    """Closes what a new process would not have; the last of it tells subprocess that this has begun.

    Both ends of pipes to oneself stay: pyarrow has such a pipe, and aborts a fork in which it is closed.
    """
    links = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own is gone
            links[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    ends = Counter(links.values())
    for descriptor, link in links.items():
        if descriptor > 2 and not (link.startswith("pipe:") and ends[link] > 1):
            os.close(descriptor)


def _exit_code(script: Callable[[], object]) -> int:
    try:
        script()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
