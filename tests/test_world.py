"""One run trained by several processes of this machine: as by one, in one folder, whatever happens to them.

The processes are forked, after all imports; those of the command line are started as torchrun starts them.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from sweepwise import build, cli, interrupt, library, parts, ranks, run
from sweepwise.compare import compare
from sweepwise.data import split
from sweepwise.data.digits import digits
from sweepwise.data.part import Part
from sweepwise.data.sklearn_sets import diabetes
from sweepwise.early_stop.patience import Patience
from sweepwise.follow import Pulse
from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.library import Unsaved
from sweepwise.model.mlp import mlp
from sweepwise.optimizer import FlatOptimizer
from sweepwise.progress import Silent
from sweepwise.record import read
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.input_noise import InputNoise
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.schema import UsageError
from sweepwise.trainer import Run, Settings, fit
from sweepwise.world import ALONE, Place, joined, place

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
PATIENCE_SECONDS = 120  # for processes that should have ended


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
        with interrupt.heeding():
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
class Log(library.Unwatched):
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


def doubled(data):
    found = {name: getattr(data, name) for name in ("train", "validation", "test")}
    kind = torch.long if data.classes else torch.double
    return replace(data, **{name: Part(part.x.double(), part.y.to(kind)) for name, part in found.items()})


def even():
    """Batches of at least two examples for each process."""
    return doubled(split(digits(), examples=190, batch_size=32))


def network(features, outputs, **options):
    return mlp(features, outputs, **{"hidden": [12, 10]} | options).double()


class Idle(nn.Module):
    """A layer whose second parameter takes no part."""

    def __init__(self, features, outputs):
        super().__init__()
        self.body, self.idle = nn.Linear(features[0], outputs), nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.01)
CASES = {
    "sgd": {"optimizer": SGD},
    "adam": {},
    "adafactor by tensor": {"optimizer": partial(FlatOptimizer, partial(torch.optim.Adafactor, lr=0.01))},
    "accumulate": {"settings": {"accumulate": 3}},
    "ema": {"settings": {"ema": 0.9}},
    "max_steps": {"settings": {"max_steps": 8}},
    "workers": {"settings": {"workers": 1, "max_epochs": 1}},
    "class weights": {"settings": {"class_weights": "balanced"}},
    "l1 and l2": {"regularizers": lambda: [L1(coefficient=1e-3), L2(coefficient=1e-2)]},
    "mixup": {"regularizers": lambda: [Mixup(alpha=0.5), InputNoise(std=0.1)]},
    "mixup in pieces": {"regularizers": lambda: [Mixup(alpha=0.5)], "settings": {"accumulate": 2}},
    "clipping": {"regularizers": lambda: [ClipNorm(max_norm=0.1)], "optimizer": SGD},
    "spectral norm": {"regularizers": lambda: [SpectralNorm()]},
    "plateau": {"scheduler": partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.5)},
    "early stopping": {
        "early_stop": lambda: Patience(patience=1, min_delta=0.2),
        "settings": {"max_epochs": 30},
    },
    "divergence": {"optimizer": partial(torch.optim.SGD, lr=1e200)},
    "regression": {"data": numbers},
    "batch norm": {"data": even, "model": partial(network, norm="batch")},
    "layer norm": {"model": partial(network, norm="layer")},
    "idle parameter": {"model": lambda features, outputs: Idle(features, outputs).double()},
}


def trained(name: str, world) -> dict:
    """All that became of a case, as plain values and arrays."""
    chosen = {"data": classes, "model": network, "optimizer": ADAM, "seed": 3} | CASES[name]
    chosen |= {part: chosen[part]() for part in ("regularizers", "early_stop") if part in chosen}
    chosen["settings"] = Settings(**{"max_epochs": 3, "device": "cpu"} | CASES[name].get("settings", {}))
    before = library.assemble
    library.assemble = partial(parts.assemble, world=world)
    try:
        built = build(**chosen)
    finally:
        library.assemble = before
    one = Run(built.schedule, built.early_stop, built.seeds.data, Log(), Unsaved())
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
        "weights": {key: value.numpy() for key, value in built.learner.state(0, best=False).items()},
        "kept": {key: value.numpy() for key, value in built.learner.state(0, best=True).items()},
    }


@pytest.fixture(scope="module", autouse=True)
def in_double():
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """What became of all cases, by the size of the world: a list over its ranks.

    The world of one is forked too: workers of a DataLoader leave threads behind that no fork survives.
    """

    @cache
    def of(size: int) -> list[dict[str, dict]]:
        folder = tmp_path_factory.mktemp(f"world{size}")

        def everything() -> int:
            with joined() as world:
                found = {name: trained(name, world) for name in CASES}
                (folder / f"{world.rank}.pkl").write_bytes(pickle.dumps(found))
            return 0

        processes = started(folder, size, everything)
        codes = [process.wait() for process in processes]
        assert codes == [0] * size, "\n".join(process.output.read_text() for process in processes)
        return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(size)]

    return of


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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_train_as_one(worlds, size, name):
    found = [rank[name] for rank in worlds(size)]
    (alone,) = (rank[name] for rank in worlds(1))
    if name == "divergence":
        assert {one["status"] for one in found} == {alone["status"]} == {"diverged"}
        return
    for one in found:
        close(alone, one)
    for one in found[1:]:
        assert pickle.dumps(one) == pickle.dumps(found[0])  # all ranks have the same, to the bit
    assert len(alone["steps"])
    assert (name != "early stopping") or alone["status"] == "stopped early"


def test_dropout_differs_between_the_ranks(tmp_path):
    """Else the halves of a batch would lose the same units."""

    def masks() -> int:
        with joined() as world:
            library.assemble = partial(parts.assemble, world=world)
            built = build(
                data=classes(),
                model=network,
                optimizer=ADAM,
                regularizers=[Dropout(p=0.5)],
                settings=Settings(device="cpu"),
            )
            built.learner._noise.begin(5)
            (tmp_path / f"{world.rank}").write_text(str(torch.rand(4).tolist()))
        return 0

    assert [process.wait() for process in started(tmp_path, 2, masks)] == [0, 0]
    drawn = [(tmp_path / f"{rank}").read_text() for rank in range(2)]
    assert drawn[0] != drawn[1]


def test_without_variables_a_process_is_alone():
    assert place({}) == place({"WORLD_SIZE": "1", "RANK": "0"}) == Place(0, 1, 0)
    with joined() as world:
        assert world is ALONE


@pytest.mark.parametrize(
    "given, words",
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2: needs RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: must be a whole number"),
        (variables(2, 2, 1), "RANK=2: must be below WORLD_SIZE=2"),
    ],
)
def test_contradicting_variables_are_refused(given, words):
    with pytest.raises(UsageError, match=words):
        place(given)


# ---- whole runs, in their folders ----


def request(folder: Path, *overrides: str):
    small = ["data.examples=200", "data.batch_size=24", "model.hidden=[12]", "progress=false"]
    chosen = [*small, f"output_dir={folder}", "checkpoint=end", "early_stop=none", *overrides]
    return cli.composed(chosen, CONF)


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
        except (UsageError, ranks.Lost, run.Ended, run.record.Busy, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return ranks.exit_code(error)

    return do


def together(home: Path, size: int, *overrides: str) -> tuple[list[int], str]:
    """The exit codes of a training by so many processes, and all that they print."""
    processes = started(home, size, training(home, *overrides))
    codes = [process.wait() for process in processes]
    return codes, "".join(process.output.read_text() for process in processes)


def test_one_folder_one_log_and_a_second_time_nothing(tmp_path):
    codes, told = together(tmp_path, 2, "trainer.max_epochs=2")
    assert codes == [0, 0], told
    folder = folder_of(tmp_path)
    assert len(list(folder.glob("events*"))) == 1
    assert told.count("finished") == told.count("2 processes of 1 thread") == 1
    assert read(folder)["environment"]["processes"] == 2
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(steps) == [0, 4, 9]
    before = (folder / "record.json").read_bytes()
    codes, told = together(tmp_path, 2, "trainer.max_epochs=2")
    assert codes == [0, 0]
    assert told.count("has ended before") == 1
    assert (folder / "record.json").read_bytes() == before


def stopped(home: Path, rank: int, number: int, *overrides: str) -> tuple[list[int], str]:
    """A training one of whose processes gets a signal once the second epoch is over."""
    processes = started(home, 2, training(home, *overrides))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not [path for path in home.glob("main/*/metrics.jsonl") if path.read_text().count("\n") > 2]:
        assert time.monotonic() < deadline, "".join(one.output.read_text() for one in processes)
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(processes[rank].pid, number)
    codes = [process.wait() for process in processes]
    assert time.monotonic() - began < 10
    return codes, "".join(process.output.read_text() for process in processes)


LONG = ("trainer.max_epochs=60", "monitor.scalars_every=7", "regularizer=dropout", "checkpoint.minutes=0")
SLOW = ("trainer.workers=1",)  # beside the run's identity; batches come through a pipe


@pytest.mark.slow
@pytest.mark.parametrize("rank, number", [(1, signal.SIGTERM), (0, signal.SIGUSR2)])
def test_a_signal_to_one_stops_all_and_they_go_on_to_the_bit(tmp_path, rank, number):
    codes, told = together(tmp_path / "whole", 2, *LONG)
    assert codes == [0, 0], told
    codes, told = stopped(tmp_path / "cut", rank, number, *LONG, *SLOW)
    assert codes == [143, 143], told
    assert read(folder_of(tmp_path / "cut"))["status"] == "interrupted"
    codes, told = together(tmp_path / "cut", 2, *LONG)
    assert codes == [0, 0], told
    assert "resume" in told and "not bit-exact" not in told
    folders = [folder_of(tmp_path / name) for name in ("whole", "cut")]
    assert [str(found) for found in compare(*folders)] == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_death_of_one_ends_all_and_they_go_on(tmp_path, rank):
    codes, told = stopped(tmp_path, rank, signal.SIGKILL, *LONG, *SLOW, "checkpoint.steps=3")
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] == 1
    assert told.count("error: another process of this training has gone") == 1
    known = read(folder_of(tmp_path))
    assert known["status"] == ("interrupted" if rank else "running")  # nobody holds the folder any more
    codes, told = together(tmp_path, 2, *LONG)
    assert codes == [0, 0], told
    assert "from step" in told


@pytest.mark.slow
def test_going_on_in_another_world_gives_the_same_up_to_rounding(tmp_path):
    plain = [option for option in LONG if "dropout" not in option]
    codes, told = together(tmp_path / "whole", 2, *plain)
    assert codes == [0, 0], told
    codes, told = stopped(tmp_path / "cut", 1, signal.SIGTERM, *plain, *SLOW)
    assert codes == [143, 143], told
    asked = request(tmp_path / "cut", *plain)
    torch.set_default_dtype(torch.float32)
    try:
        assert run.train(asked).exit_code == 0
    finally:
        torch.set_default_dtype(torch.float64)
    known, whole = read(folder_of(tmp_path / "cut")), read(folder_of(tmp_path / "whole"))
    assert known["not_bit_exact"] == ["processes 2 -> 1"]
    assert known["metrics"]["train/loss"] == pytest.approx(whole["metrics"]["train/loss"], rel=1e-3)


def test_a_step_that_fails_in_one_ends_all(tmp_path, monkeypatch):
    step = ModuleLearner.step

    def failing(self, x, y, rates, number, watch):
        if number == 7 and self._world.rank == 1:
            raise OSError("no such luck")
        return step(self, x, y, rates, number, watch)

    monkeypatch.setattr(ModuleLearner, "step", failing)
    codes, told = together(tmp_path, 2, "trainer.max_epochs=3", "checkpoint.steps=3")
    assert codes == [1, 1]
    assert told.count("error: ") == told.count("error: no such luck") == 1
    known = read(folder_of(tmp_path))
    assert (known["status"], known["reason"]) == ("failed", "rank 1: OSError: no such luck")


@pytest.mark.slow
def test_four_go_on_to_the_bit(tmp_path, monkeypatch):
    """With more than two, the order in which gradients are added must not depend on where a run began."""
    chosen = ("trainer.max_epochs=4", "regularizer=dropout", "trainer.ema=0.9", "model.hidden=[40,30]")
    codes, told = together(tmp_path / "whole", 4, *chosen)
    assert codes == [0] * 4, told
    pulse = Pulse.__call__

    def signalled(self):
        if self._step == 10 and self._world.rank == 3:
            self._interrupts.signal = signal.SIGTERM
        return pulse(self)

    with monkeypatch.context() as patched:
        patched.setattr(Pulse, "__call__", signalled)
        codes, told = together(tmp_path / "cut", 4, *chosen)
        assert codes == [143] * 4, told
    codes, told = together(tmp_path / "cut", 4, *chosen)
    assert codes == [0] * 4, told
    folders = [folder_of(tmp_path / name) for name in ("whole", "cut")]
    assert [str(found) for found in compare(*folders)] == []


@pytest.mark.slow
def test_compiled(tmp_path, monkeypatch):
    import torch._inductor.config

    # A pool of threads that an earlier test has compiled with does not survive the fork.
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    found = []
    for compile in ("false", "true"):
        home = tmp_path / compile
        codes, told = together(home, 2, "trainer.max_epochs=2", f"trainer.compile={compile}")
        assert codes == [0, 0], told
        found.append(read(folder_of(home))["metrics"]["val/loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_bad_usage_is_said_once(tmp_path):
    codes, told = together(tmp_path, 2, "data.batch_size=10000")
    assert codes == [2, 2]
    assert told.count("error:") == 1
    assert not (tmp_path / "main").exists()


def test_batch_norm_needs_an_example_in_each(tmp_path):
    codes, told = together(tmp_path, 2, "model.norm=batch", "trainer.accumulate=2", "data.batch_size=20")
    assert codes == [2, 2]
    assert "trainer.accumulate=2: must be 1 in a world of 2 processes with batch norm" in told


def test_a_folder_that_another_process_holds_ends_all(tmp_path):
    asked = request(tmp_path, "trainer.max_epochs=1")
    with run.record.claim(asked):
        codes, told = together(tmp_path, 2, "trainer.max_epochs=1")
    assert codes == [1, 1]
    assert told.count("is being trained by") == 1


# ---- the command ----


def command(size: int, folder: Path, *overrides: str) -> tuple[int, str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
    asked = ["data.examples=200", "trainer.max_epochs=2", "trainer.threads=1", f"output_dir={folder}"]
    environment = os.environ | {"MASTER_PORT": str(free_port())}
    done = subprocess.run(
        [*torchrun, "--master-port", environment["MASTER_PORT"], str(ROOT / "train.py"), *asked, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=environment,
        cwd=folder,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_torchrun(tmp_path):
    code, told = command(2, tmp_path)
    assert code == 0, told
    assert told.count("finished      after epoch 1") == 1
    code, told = command(2, tmp_path)
    assert code == 0, told
    assert told.count("finished before") == 1
    for wrong in ("optimizer.lr=-1", "trainer.max_epohs=1", "-m"):
        code, told = command(2, tmp_path, wrong)
        assert code == 1, told  # torchrun's own, for the 2 of the processes
        assert told.count("error: ") == 1
        assert "exitcode  : 2" in told
