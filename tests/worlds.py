"""Worlds of forked processes, and what they train: cases in float64, and whole runs in their folders.

They are forked after all imports, so a world costs little more than its training.
"""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # a second, which DistributedDataParallel would take in each process of each world
from small import composed

from sweepwise import build, parts, run
from sweepwise.data import Part, split
from sweepwise.data.digits import digits
from sweepwise.data.sklearn_sets import diabetes
from sweepwise.distributed import ranks
from sweepwise.distributed.join import join_world
from sweepwise.distributed.world import PeerLost
from sweepwise.errors import UsageError
from sweepwise.learner import Watch
from sweepwise.library import building
from sweepwise.model.mlp import mlp
from sweepwise.store.claim import Busy
from sweepwise.store.status import Ended
from sweepwise.system import signals
from sweepwise.system.progress import Silent
from sweepwise.trainer import Run, Settings, fit, protocols
from sweepwise.trainer.protocols import NoCheckpoints

PATIENCE_SECONDS = 120  # for processes that should have ended
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.01)

Case = Mapping[str, Any]  # of `build`, with settings as a dictionary


@dataclass
class Process:
    """A forked process.

    Attributes:
        pid: of it.
        output: what it prints.
    """

    pid: int
    output: Path

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, minus the signal that ended it; fails if it lives on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"still there after {seconds} s:\n{self.output.read_text()}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in here.items()}


def started(folder: Path, size: int, do: Callable[[], int]) -> list[Process]:
    """A world of forked processes that each do the same, and exit with the code that it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    port, found = free_port(), []
    sys.stdout.flush()
    sys.stderr.flush()
    for rank in range(size):
        output = folder / f"rank{rank}.txt"
        pid = os.fork()
        if not pid:
            _live(output, variables(rank, size, port), do)
        found.append(Process(pid, output))
    return found


def _live(output: Path, environment: dict[str, str], do: Callable[[], int]) -> None:
    code = 1
    try:
        util._run_after_forkers()  # else the sharer of files of a test with loaders is here
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.environ |= environment
        with signals.handling_signals():
            code = do()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        code = ranks.exit_code(error)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@dataclass
class Log(protocols.NoMonitor):
    """A monitor that watches every second step."""

    steps: list = field(default_factory=list)

    def watch(self, step):
        return Watch.TENSORS if step % 4 == 0 else Watch.SCALARS if step % 2 == 0 else Watch.NOTHING

    def step(self, step, epoch, rate, watched):
        if self.watch(step):
            ratios = list(watched.update_ratio.values())
            self.steps.append([step, rate, watched.loss, watched.penalty, watched.gradient_norm, *ratios])


@cache
def classes():
    """121 training examples: of the last batch of 1 most processes have none."""
    return doubled(split(digits(), examples=201, batch_size=24))


@cache
def numbers():
    return doubled(split(diabetes(), examples=190, batch_size=25))


def all_rows():
    """Neither a validation part nor a test part."""
    return doubled(split(digits(), examples=121, batch_size=24, validation=0, test=0))


def doubled(data):
    found = {name: getattr(data, name) for name in ("train", "validation", "test")}
    kind = torch.long if data.classes else torch.double
    return replace(data, **{name: Part(part.x.double(), part.y.to(kind)) for name, part in found.items()})


def even():
    """Batches of at least two examples for each process."""
    return doubled(split(digits(), examples=190, batch_size=32))


def network(features, outputs, **options):
    return mlp(features, outputs, **{"hidden": [12, 10]} | options).double()


def trained(case: Case, world) -> dict:
    """All that became of a case, as plain values and arrays."""
    chosen = {"data": classes, "model": network, "optimizer": ADAM, "seed": 3} | case
    chosen |= {part: chosen[part]() for part in ("regularizers", "early_stop") if part in chosen}
    chosen["settings"] = Settings(**{"max_epochs": 3, "device": "cpu"} | case.get("settings", {}))
    before = building.assemble
    building.assemble = partial(parts.assemble, world=world)
    try:
        built = build(**chosen)
    finally:
        building.assemble = before
    one = Run(built.schedule, built.early_stop, built.seeds.data, Log(), NoCheckpoints())
    fit(built.learner, built.data, built.task, [one], built.settings, Silent(), world=world)
    numbers = [list(values.values()) for values in one.history]
    final = [one.final.get("test", {}).get("loss", 0.0), one.final.get("val", {}).get("loss", 0.0)]
    return {
        "status": one.status,
        "words": one.reason if one.status != "diverged" else "",
        "epochs": len(one.history),
        "best": [one.best.epoch, one.best.step],
        "steps": np.array(one.monitor.steps),
        "history": np.array(numbers),
        "final": np.array(final),
        "weights": {
            key: value.numpy() for key, value in built.learner.model_state_dict(0, best=False).items()
        },
        "kept": {key: value.numpy() for key, value in built.learner.model_state_dict(0, best=True).items()},
    }


def outcomes(folder: Path, size: int, cases: Mapping[str, Case]) -> list[dict[str, dict]]:
    """What became of cases in a world, in each of its ranks.

    The world of one is forked too: workers of a DataLoader leave threads behind that no fork survives.
    """

    def everything() -> int:
        with join_world() as world:
            found = {name: trained(case, world) for name, case in cases.items()}
            (folder / f"{world.rank}.pkl").write_bytes(pickle.dumps(found))
        return 0

    processes = started(folder, size, everything)
    codes = [process.wait() for process in processes]
    assert codes == [0] * size, "\n".join(process.output.read_text() for process in processes)
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(size)]


def close(one, other, at: str = "") -> None:
    """Alike up to the order in which double numbers are added."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            close(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, np.ndarray) and one.dtype.kind == "f":
        scale = max(1.0, np.abs(one[np.isfinite(one)]).max(initial=0.0))
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9 * scale, err_msg=at)
    else:
        np.testing.assert_equal(other, one, err_msg=at)


def request(folder: Path, *overrides: str):
    small = ["data.examples=200", "data.batch_size=24", "model.hidden=[12]", "progress=false"]
    chosen = [*small, f"output_dir={folder}", "checkpoint=end", "early_stop=none", *overrides]
    return composed(*chosen)


def folder_of(home: Path) -> Path:
    (found,) = (home / "main").glob("*-*")
    return found


def training(home: Path, *overrides: str) -> Callable[[], int]:
    """What each process does; also as the command would, without what the command costs."""
    asked = request(home, *overrides)

    def do() -> int:
        torch.set_default_dtype(torch.float32)
        try:
            return run.train(asked).exit_code
        except (UsageError, PeerLost, Ended, Busy, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return ranks.exit_code(error)

    return do


def together(home: Path, size: int, *overrides: str) -> tuple[list[int], str]:
    """The exit codes of a training by so many processes, and all that they print."""
    processes = started(home, size, training(home, *overrides))
    codes = [process.wait() for process in processes]
    return codes, "".join(process.output.read_text() for process in processes)
