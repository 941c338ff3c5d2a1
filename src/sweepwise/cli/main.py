"""The command line: takes a config that Hydra has composed, and gives back an exit code.

Exit codes: 0 done, 1 failed or diverged, 2 bad usage, 130 Ctrl-C, 143 SIGTERM. In a sweep a run that diverges
is a result like any other: its record says so, and the sweep is done.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise.cli import faults as faults_module
from sweepwise.cli import guard, options
from sweepwise.cli.compose import refusal, request_of
from sweepwise.cli.faults import option_faults
from sweepwise.cli.help import page, show
from sweepwise.config import allowlist
from sweepwise.distributed import place
from sweepwise.errors import BAD_USAGE, FAILED, TOLD, Failure, UsageError
from sweepwise.provenance.changes import already_ended
from sweepwise.run import load
from sweepwise.store import claim, folders, record
from sweepwise.store.status import ENDED, Ended
from sweepwise.system import console, signals

_ours: set[Callable[..., Any]] = set()  # functions that `main` was given
_EXPECTED = (UsageError, claim.Busy, Failure, OSError)


@contextmanager
def _answering() -> Iterator[None]:
    """Signals end the program with the code that a shell expects; a reader that has gone does not end it."""
    console.occupy()
    with console.lasting(), signals.handling_signals():
        try:
            yield
        except KeyboardInterrupt as stopped:
            raise SystemExit(_stopped(stopped)) from None
        except Exception:
            if torn := signals.swallowed_signal():
                raise SystemExit(_stopped(torn)) from None
            raise


@_answering()
def main(task: Callable[[], Any], packages: Sequence[str] = ()) -> None:
    """Runs a `@hydra.main` function and exits with the code that says what became of it.

    Args:
        task: the function; it takes the config that Hydra composes, and hands it to `execute`. The runs of
            a sweep are trained without calling it.
        packages: names of packages of your own, from which a config may build.
    """
    allowlist.allow(packages)
    guard.install()
    _ours.add(inspect.unwrap(task))
    place.quieten()
    several = ("-m", "--multirun")  # may stand anywhere, but Hydra wants it first
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in several)
    arguments = sys.argv[1:]
    conf = Path(sys.argv[0]).resolve().parent / "conf"
    try:
        confs = options.folders(conf, arguments)
        if {"--help", "-h"} & set(arguments):
            show(page(confs, arguments))
            return
        if faults := option_faults(arguments, confs):
            raise UsageError(faults)
        launcher = faults_module.launcher(arguments)
        if launcher not in ("", "local") and not any(word.startswith("-") for word in arguments):
            raise UsageError([f"hydra/launcher={launcher}: takes the runs of a sweep; add -m"])
        if place.place().size > 1 and set(several) & set(arguments):
            raise UsageError(
                ["-m: a sweep starts its own processes: it must not run under torchrun; leave torchrun out"]
            )
    except UsageError as error:
        raise SystemExit(_found_by_all(str(error))) from None
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(_found_by_all(str(refusal(error, arguments, confs)))) from None
    except _EXPECTED as error:
        code = _exit_code(error)
        if TOLD not in getattr(error, "__notes__", ()):  # Hydra itself could not make the folder of a sweep
            _refused(folders.explained(None, error) if isinstance(error, OSError) else str(error), code)
        raise SystemExit(code) from None


def is_ours(task: Callable[..., Any]) -> bool:
    """Whether Hydra's task function is one that `main` was given: all that it does is `execute`."""
    return task in _ours


@_answering()
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
        if why := console.lost():
            raise Failure(f"what is printed could not be written: {why}")
    except _EXPECTED as error:
        code = _refused(str(error), _exit_code(error))
    raise SystemExit(code or 0)


def execute(config: DictConfig) -> float:
    """Trains the run that a composed config describes, unless it has been; returns its best value."""
    hydra = HydraConfig.get()
    single = hydra.mode == RunMode.RUN
    try:
        code, value = _execute(config, hydra)
    except _EXPECTED as error:
        which = "" if single else f"run {hydra.job.num} ({hydra.job.override_dirname}): "
        code = _refused("\n".join(which + line for line in str(error).splitlines()), _exit_code(error))
        if not single:
            error.add_note(TOLD)
            raise  # the sweep goes on with its other runs
        raise SystemExit(code) from None
    if code and (single or code > signals.SIGNALLED):
        raise SystemExit(code)
    return float("nan") if value is None else value


def _execute(config: DictConfig, hydra: HydraConf) -> tuple[int, float | None]:
    """The exit code and the best value of a run."""
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # one may hold an interpolation
    assert isinstance(overrides, list)
    try:
        request = request_of(config, overrides, hydra.runtime.choices)
    except UsageError as error:
        if place.place().size == 1:
            raise
        raise SystemExit(_found_by_all(str(error))) from None
    # Of several processes rank 0 alone asks the disk, once they have met.
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
    return ENDED[known["status"]], known["best"]["value"]


def _exit_code(error: Exception) -> int:
    return BAD_USAGE if isinstance(error, UsageError) else FAILED


def _stopped(error: KeyboardInterrupt) -> int:
    number = error.signal if isinstance(error, signals.Stopped) else signal.SIGINT
    text = str(error) or "interrupted"
    return _refused("" if place.is_led() else text, signals.exit_code(number))


def _found_by_all(text: str) -> int:
    """Bad usage that each of several processes finds by itself; one of them says so."""
    if not place.is_led():
        return _refused(text, BAD_USAGE)
    place.linger()
    return BAD_USAGE


def _refused(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
