"""The command line: trains the run of a config that Hydra has composed, and returns an exit code.

Exit codes: 0 done, 1 failed or diverged, 2 bad usage, 130 Ctrl-C, 143 SIGTERM. In a sweep a run that diverges
is a result like any other: its record says so, and the sweep is done.
"""

import inspect
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise.cli import hooks
from sweepwise.cli.checks import single_run_fault
from sweepwise.cli.compose import refusal, request_of
from sweepwise.config import allowlist
from sweepwise.distributed import place
from sweepwise.errors import BAD_USAGE, FAILED, REPORTED, Failure, UsageError
from sweepwise.provenance.changes import already_ended
from sweepwise.run import load
from sweepwise.store import claim, folders, record
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES, Ended
from sweepwise.system import console, signals

_ours: set[Callable[..., Any]] = set()  # functions that `main` was given
_EXPECTED = (UsageError, claim.Busy, Failure, OSError)


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """While entered, a signal ends the program with the exit code that a shell expects.

    A reader of its output that has gone does not end it.
    """
    console.reserve_standard_descriptors()
    with console.tolerant_output(), signals.handling_signals():
        try:
            yield
        except KeyboardInterrupt as stopped:
            raise SystemExit(_stopped(stopped)) from None
        except Exception:
            if signal_lost := signals.swallowed_signal():
                raise SystemExit(_stopped(signal_lost)) from None
            raise


@_exiting_on_signals()
def main(task: Callable[[], Any], packages: Sequence[str] = ()) -> None:
    """Runs a `@hydra.main` function and exits with the code that says how it ended.

    Args:
        task: the function; it takes the config that Hydra composes, and hands it to `execute`. The runs of
            a sweep are trained without calling it.
        packages: names of packages of your own whose classes and functions a config may name.
    """
    allowlist.allow(packages)
    hooks.install()
    _ours.add(inspect.unwrap(task))
    place.quieten()
    flags = get_args_parser().parse_intermixed_args()
    sys.argv[1:] = _flags_first(sys.argv[1:], flags.overrides)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that Hydra raises errors instead of printing them
    try:
        _check_flags(flags)
        task()
    except SystemExit as ended:  # Hydra ends so after --help
        if ended.code or not flags.help:
            raise
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(_refused_by_each(str(refusal(error, flags.overrides)))) from None
    except _EXPECTED as error:
        code = _exit_code(error)
        if REPORTED in getattr(error, "__notes__", ()):
            raise SystemExit(code) from None
        if isinstance(error, UsageError):
            raise SystemExit(_refused_by_each(str(error))) from None
        # Hydra itself could not make the folder of a sweep.
        _refused(folders.explained(None, error) if isinstance(error, OSError) else str(error), code)
        raise SystemExit(code) from None


def _flags_first(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The arguments for Hydra, which takes flags in front of overrides only: `name=x -m` would be refused."""
    rest = list(overrides)
    flags = [word for word in arguments if not (rest and word == rest[0] and rest.pop(0))]
    return [*flags, *overrides]


def _check_flags(flags: Namespace) -> None:
    """Prepares what Hydra's flags ask for.

    Raises:
        UsageError: they cannot stand together.
    """
    if flags.hydra_help:  # is composed without the primary config
        others = [word for word in flags.overrides if not word.lstrip("+~").startswith("hydra")]
        sys.argv[1:] = [word for word in sys.argv[1:] if word not in others]
        if not any("hydra/job_logging" in word for word in flags.overrides):
            sys.argv.append("hydra/job_logging=none")  # Hydra's default would log to a file; none is opened
    if flags.help or flags.hydra_help:
        return
    deeds = {
        "--run": flags.run,
        "-m": flags.multirun,
        "--cfg": flags.cfg,
        "--info": flags.info,
        "-sc": flags.shell_completion,
    }
    asked = [name for name, value in deeds.items() if value]
    if len(asked) > 1:
        raise UsageError([f"{' '.join(asked)}: only one of these at a time; leave all but one out"])
    if flags.resolve and not flags.cfg:
        raise UsageError(["--resolve: is for --cfg; add --cfg job, or leave it out"])
    if flags.multirun and place.place().size > 1:
        raise UsageError(["-m: a sweep starts its own processes; start it with python, not with torchrun"])


def is_ours(task: Callable[..., Any]) -> bool:
    """Whether Hydra's task function is one that was given to `main`, so that it only calls `execute`."""
    return task in _ours


@_exiting_on_signals()
def script(task: Callable[[list[str]], int | None], about: str = "") -> None:
    """Runs a script's function of the command line's arguments, and exits as `main` does.

    What it prints is its result, so it has failed if that could not be written.

    Args:
        task: takes the arguments; returns an exit code, or None for 0.
        about: what --help prints.
    """
    arguments = sys.argv[1:]
    code = None
    try:
        if {"--help", "-h"} & set(arguments):
            print(about.strip())
        else:
            code = task(arguments)
        if why := console.lost_output():
            raise Failure(f"what is printed could not be written: {why}")
    except _EXPECTED as error:
        code = _refused(str(error), _exit_code(error))
    raise SystemExit(code or 0)


def execute(config: DictConfig) -> float:
    """Trains the run that a composed config describes, unless it has ended before; returns its best value."""
    hydra = HydraConfig.get()
    single = hydra.mode == RunMode.RUN
    try:
        code, value = _execute(config, hydra)
    except _EXPECTED as error:
        which = "" if single else f"run {hydra.job.num} ({hydra.job.override_dirname}): "
        code = _refused("\n".join(which + line for line in str(error).splitlines()), _exit_code(error))
        if not single:
            error.add_note(REPORTED)
            raise  # the sweep goes on with its other runs
        raise SystemExit(code) from None
    if code and (single or code > signals.SIGNALLED):
        raise SystemExit(code)
    return float("nan") if value is None else value


def _execute(config: DictConfig, hydra: HydraConf) -> tuple[int, float | None]:
    """Trains a run unless it has ended before; returns its exit code and its best value."""
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # one may hold an interpolation
    assert isinstance(overrides, list)
    try:
        if hydra.mode == RunMode.RUN and (fault := single_run_fault(hydra.overrides.hydra)):
            raise UsageError([fault])
        request = request_of(config, overrides, hydra.runtime.choices)
    except UsageError as error:
        if place.place().size == 1:
            raise
        raise SystemExit(_refused_by_each(str(error))) from None
    return _trained(request)


def train_request(request: Request) -> int:
    """Trains a run as `execute` does, for scripts; returns its exit code.

    Raises:
        UsageError: it cannot be built; no folder was made.
        Failure: it cannot be trained.
        OSError: its folder cannot be written.
    """
    code, _ = _trained(request)
    return code


def _trained(request: Request) -> tuple[int, float | None]:
    """Trains a run unless it has ended before; returns its exit code and its best value."""
    # With several processes only rank 0 reads the record, later, when all of them are connected.
    if place.place().size == 1 and (known := already_ended(request)):
        return _earlier_result(request.folder, known)
    try:
        result = load.trainer()(request)
    except Ended as error:  # another process has trained it in the meantime
        return _earlier_result(error.folder, record.read(error.folder))
    return result.exit_code, result.run.best.value


def _earlier_result(folder: Path, known: Mapping[str, Any]) -> tuple[int, float | None]:
    """Prints how a run ended before; returns its exit code and its best value."""
    from sweepwise.run.messages import closing

    print(f"{known['status']} before, in {folder}; fresh=true trains again")
    closing(folder, known)
    return EXIT_CODES[known["status"]], known["best"]["value"]


def _exit_code(error: Exception) -> int:
    return BAD_USAGE if isinstance(error, UsageError) else FAILED


def _stopped(error: KeyboardInterrupt) -> int:
    number = error.signal if isinstance(error, signals.Stopped) else signal.SIGINT
    text = str(error) or "interrupted"
    return _refused("" if place.is_led() else text, signals.exit_code(number))


def _refused_by_each(text: str) -> int:
    """Exits for bad usage that each of several processes finds by itself; only one of them prints it."""
    if not place.is_led():
        return _refused(text, BAD_USAGE)
    place.linger()
    return BAD_USAGE


def _refused(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
