"""One run trained by several processes of this machine: as by one, in one folder, whatever happens to them.

The processes are forked, after all imports; those of the command line are started as torchrun starts them.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from small import TRAIN
from torch import nn
from torch.optim import lr_scheduler
from worlds import (
    ADAM,
    PATIENCE_SECONDS,
    SGD,
    all_rows,
    classes,
    close,
    even,
    folder_of,
    free_port,
    network,
    numbers,
    outcomes,
    request,
    started,
    together,
    training,
    variables,
)

from sweepwise import build, parts, run
from sweepwise.distributed.join import join_world
from sweepwise.distributed.place import Place, place
from sweepwise.distributed.world import SINGLE_PROCESS
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.learner.module import ModuleLearner
from sweepwise.library import building
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.input_noise import InputNoise
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.run.follow import StepSync
from sweepwise.store.claim import claim_run
from sweepwise.store.record import read
from sweepwise.trainer import Settings
from sweepwise.verify.compare import compare

pytestmark = pytest.mark.usefixtures("in_double", "written_soon")


class Idle(nn.Module):
    """A layer whose second parameter takes no part."""

    def __init__(self, features, outputs):
        super().__init__()
        self.body, self.idle = nn.Linear(features[0], outputs), nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


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
    "all rows": {"data": all_rows},
    "batch norm": {"data": even, "model": partial(network, norm="batch")},
    "layer norm": {"model": partial(network, norm="layer")},
    "idle parameter": {"model": lambda features, outputs: Idle(features, outputs).double()},
}


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_train_as_one(size, tmp_path):
    """All cases in one test: xdist would have each of its workers train them."""
    (alone,) = outcomes(tmp_path / "alone", 1, CASES)
    first, *others = found = outcomes(tmp_path / "together", size, CASES)
    for name in CASES:
        if name == "divergence":
            assert {one[name]["status"] for one in [alone, *found]} == {"diverged"}
            continue
        for rank in others:
            assert pickle.dumps(rank[name]) == pickle.dumps(first[name]), name  # alike, to the bit
        close(alone[name], first[name], name)
        assert len(alone[name]["steps"]), name
    assert alone["early stopping"]["status"] == "stopped early"


def test_dropout_differs_between_the_ranks(tmp_path):
    """Else the halves of a batch would lose the same units."""

    def masks() -> int:
        with join_world() as world:
            building.assemble = partial(parts.assemble, world=world)
            built = build(
                data=classes(),
                model=network,
                optimizer=ADAM,
                regularizers=[Dropout(p=0.5)],
                settings=Settings(device="cpu"),
            )
            built.learner.noise.begin(5)
            (tmp_path / f"{world.rank}").write_text(str(torch.rand(4).tolist()))
        return 0

    assert [process.wait() for process in started(tmp_path, 2, masks)] == [0, 0]
    drawn = [(tmp_path / f"{rank}").read_text() for rank in range(2)]
    assert drawn[0] != drawn[1]


def test_without_variables_a_process_is_alone():
    assert place({}) == place({"WORLD_SIZE": "1", "RANK": "0"}) == Place(0, 1, 0)
    with join_world() as world:
        assert world is SINGLE_PROCESS


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
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_they_pause_together_and_go_on_to_the_bit(tmp_path, parallel):
    chosen = (*LONG, "trainer.max_epochs=6", f"trainer.parallel={parallel}")
    codes, told = together(tmp_path / "whole", 2, *chosen)
    assert codes == [0, 0], told
    for pause in (2, 2, 4):
        codes, told = together(tmp_path / "cut", 2, *chosen, f"trainer.pause_after={pause}")
        assert codes == [0, 0], told
        known = read(folder_of(tmp_path / "cut"))
        assert (known["status"], known["stopped"]["epoch"]) == ("pruned", pause - 1)
    codes, told = together(tmp_path / "cut", 2, *chosen)
    assert codes == [0, 0] and "not bit-exact" not in told, told
    folders = [folder_of(tmp_path / name) for name in ("whole", "cut")]
    assert [str(found) for found in compare(*folders)] == []


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_death_of_one_ends_all_and_they_go_on(tmp_path, rank, parallel):
    chosen = (*LONG, f"trainer.parallel={parallel}")
    codes, told = stopped(tmp_path, rank, signal.SIGKILL, *chosen, *SLOW, "checkpoint.steps=3")
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] == 1
    assert told.count("error: another process of this training is gone") == 1
    known = read(folder_of(tmp_path))
    assert known["status"] == ("interrupted" if rank else "running")  # nobody holds the folder any more
    codes, told = together(tmp_path, 2, *chosen)
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
    assert known["last"]["train/loss"] == pytest.approx(whole["last"]["train/loss"], rel=1e-3)


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
    pulse = StepSync.__call__

    def signalled(self):
        if self._step == 10 and self._world.rank == 3:
            self._interrupts.signal = signal.SIGTERM
        return pulse(self)

    with monkeypatch.context() as patched:
        patched.setattr(StepSync, "__call__", signalled)
        codes, told = together(tmp_path / "cut", 4, *chosen)
        assert codes == [143] * 4, told
    codes, told = together(tmp_path / "cut", 4, *chosen)
    assert codes == [0] * 4, told
    folders = [folder_of(tmp_path / name) for name in ("whole", "cut")]
    assert [str(found) for found in compare(*folders)] == []


@pytest.mark.slow
def test_compiled(tmp_path):
    import torch._inductor.config

    found = []
    for compile in ("false", "true"):
        home = tmp_path / compile
        # A pool of threads that an earlier test has compiled with does not survive the fork. By torch's own
        # patch: pytest's deletes the option afterwards, and no later test of this process could compile.
        with torch._inductor.config.patch(compile_threads=1):
            codes, told = together(home, 2, "trainer.max_epochs=2", f"trainer.compile={compile}")
        assert codes == [0, 0], told
        found.append(read(folder_of(home))["last"]["val/loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_bad_usage_is_said_once(tmp_path):
    codes, told = together(tmp_path, 2, "data.batch_size=10000")
    assert codes == [2, 2]
    assert told.count("error:") == 1
    assert not (tmp_path / "main").exists()


def test_batch_norm_needs_an_example_in_each(tmp_path):
    codes, told = together(tmp_path, 2, "model.norm=batch", "trainer.accumulate=2", "data.batch_size=20")
    assert codes == [2, 2]
    assert "trainer.accumulate=2: must be 1 with batch norm and 2 processes" in told


def test_a_folder_that_another_process_holds_ends_all(tmp_path):
    asked = request(tmp_path, "trainer.max_epochs=1")
    with claim_run(asked):
        codes, told = together(tmp_path, 2, "trainer.max_epochs=1")
    assert codes == [1, 1]
    assert told.count("is being trained by") == 1


# ---- the command ----


def command(size: int, folder: Path, *overrides: str) -> tuple[int, str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
    asked = ["data.examples=200", "trainer.max_epochs=2", "trainer.threads=1", f"output_dir={folder}"]
    environment = os.environ | {"MASTER_PORT": str(free_port())}
    done = subprocess.run(
        [*torchrun, "--master-port", environment["MASTER_PORT"], TRAIN, *asked, *overrides],
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
