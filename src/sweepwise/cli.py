"""The command line: takes a config that Hydra has composed, and gives back an exit code.

Exit codes: 0 done, 1 failed or diverged, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise import record, usage
from sweepwise.record import Request
from sweepwise.schema import UsageError

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130
ENDED = {"finished": 0, "stopped early": 0, "diverged": 1}


def main(task: Callable[[], Any]) -> None:
    """Runs a `@hydra.main` function and exits with the code that says what became of it."""
    arguments = sys.argv[1:]
    conf = Path(sys.argv[0]).resolve().parent / "conf"
    if {"--help", "-h"} & set(arguments):
        print(usage.page(conf))
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        _fail(BAD_USAGE, usage.explain(str(error), arguments, conf))
    except UsageError as error:
        _fail(BAD_USAGE, str(error))
    except (record.Busy, OSError) as error:
        _fail(FAILED, str(error))
    except KeyboardInterrupt:
        _fail(INTERRUPTED, "interrupted")


def execute(config: DictConfig) -> float:
    """Trains the run that a composed config describes, unless it has been; returns its best value."""
    hydra = HydraConfig.get()
    single = hydra.mode == RunMode.RUN
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    choices = {
        group: option for group, option in hydra.runtime.choices.items() if not group.startswith("hydra")
    }
    request = Request({str(key): value for key, value in plain.items()}, list(hydra.overrides.task), choices)
    usage.check_shape(request.config)
    known = record.read(request.folder)
    if known.get("status") in ENDED and not request.config["fresh"]:
        from sweepwise.report import closing

        print(f"{known['status']} before, in {request.folder}; fresh=true trains again")
        closing(request.folder, known)
        code, value = ENDED[known["status"]], known["best"]["value"]
    else:
        from sweepwise.run import train  # imports torch, which a finished run does not need

        result = train(request)
        code, value = result.exit_code, result.run.best.value
    if code and (single or code >= INTERRUPTED):
        raise SystemExit(code)
    return float("nan") if value is None else value


def _fail(code: int, text: str) -> None:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)
