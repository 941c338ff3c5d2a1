"""Which runs of a sweep are trained together, and that together is as good as alone whatever happens."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
from small import CONF, ENVIRONMENT, PLAIN, ROOT, TINY, TRAIN, composed
from torch import nn

from sweepwise import cli, run, trainer
from sweepwise.diagnosis import advice
from sweepwise.errors import Failure
from sweepwise.learner.fused import Unfusable
from sweepwise.run import from_config, group, load, session, single
from sweepwise.store import claim, record
from sweepwise.store.status import current_status
from sweepwise.store.strict_json import rounded
from sweepwise.sweep.local import group_size, groups, launch, machine, pool
from sweepwise.sweep.local.fork import run_in_child
from sweepwise.sweep.local.observer import Unobserved
from sweepwise.sweep.outcome import status

SMALL = [*TINY, *PLAIN, "monitor=scalars", "trainer.max_epochs=3"]

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture(autouse=True)
def torch_is_here():
    """As in the process that forks a group's."""
    load.trainer()


@pytest.fixture
def always_faster(monkeypatch):
    """Groups of any width, whatever the machine is busy with."""
    monkeypatch.setattr(group_size, "_seconds", lambda learner, x, y: 1.0)


class News(Unobserved):
    """Collects what the pool says of the sweep."""

    def __init__(self, lines):
        self.lines = lines

    def say(self, key, text):
        self.lines.append((key, text))


def asked(*overrides):
    return composed(*SMALL, *overrides)


def grouped(*requests, at_once=1, size=None):
    """The seeds of the runs of each unit, and the plan."""
    found = groups.groups(requests, at_once, size)
    return [[request.config["seed"]["value"] for request in unit.requests] for unit in found.units], str(
        found
    )


@pytest.mark.usefixtures("always_faster")
def test_what_differs_in_numbers_only_is_grouped():
    requests = [
        asked("seed.value=0", "init=xavier"),
        asked("seed.value=1", "scheduler=plateau", "optimizer.lr=0.01"),
        asked("seed.value=2", "regularizer=[l1,dropout]", "trainer.ema=0.9"),
        asked("seed.value=3", "early_stop=patience", "early_stop.patience=1"),
        asked("seed.value=4", "optimizer.weight_decay=0.1"),
    ]
    assert grouped(*requests) == ([[0, 1, 2, 3, 4]], "fused 5 of 5 runs in 1 group")


@pytest.mark.usefixtures("always_faster")
@pytest.mark.parametrize(
    "other",
    [
        "model.hidden=[9]",
        "data.batch_size=32",
        "data=digits",
        "optimizer=sgd",
        "trainer.max_epochs=4",
        "monitor=none",
        "trainer.validate_every=2",
        "regularizer=mixup",
    ],
)
def test_other_shapes_data_and_lengths_are_other_groups(other):
    requests = [asked(f"seed.value={seed}", *extra) for seed, extra in enumerate([[], [other], [], [other]])]
    units, told = grouped(*requests)
    assert units == [[0, 2], [1, 3]] and told == "fused 4 of 4 runs in 2 groups"


@pytest.mark.usefixtures("always_faster")
@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["trainer.compile=true"], "trainer.compile=true"),
        (["trainer.precision=bf16"], "trainer.precision=bf16"),
        (["trainer.accumulate=2"], "trainer.accumulate=2"),
        pytest.param(["model=lstm", "data=mnist1d"], "LSTM", marks=pytest.mark.slow),
        (["regularizer=spectral_norm"], "cannot be stacked"),
    ],
)
def test_what_cannot_be_fused_is_alone_and_the_plan_says_why(overrides, why):
    common = [] if "model=lstm" not in overrides else ["~model.hidden"]
    small = [word for word in SMALL if not (common and word.startswith(("model.", "data=")))]
    requests = [
        cli.composed(
            [*small, *overrides, f"seed.value={seed}", "data.examples=60", "data.batch_size=10"],
            CONF,
        )
        for seed in (0, 1)
    ]
    units, told = grouped(*requests)
    assert units == [[0], [1]] and why in told and told.startswith("fused 0 of 2 runs in 0 groups; 2 alone: ")


@pytest.mark.usefixtures("always_faster")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=() if path.stem == "muon" else pytest.mark.slow)
        for path in sorted((ROOT / "conf/optimizer").glob("[!o]*.yaml"))
    ],
)
def test_any_optimizer_is_stacked(name):
    requests = [
        asked(f"seed.value={seed}", f"optimizer={name}", "model.hidden=[8,8]", "optimizer.lr=0.01")
        for seed in range(3)
    ]
    assert grouped(*requests)[1] == "fused 3 of 3 runs in 1 group"


def test_a_single_run_has_no_other():
    assert (
        grouped(asked("seed.value=0"))[1]
        == "fused 0 of 1 runs in 0 groups; 1 alone: no other run differs from it in numbers only"
    )


@pytest.mark.usefixtures("always_faster")
def test_groups_are_spread_over_the_processes_and_no_larger_than_asked():
    requests = [asked(f"seed.value={seed}") for seed in range(8)]
    assert sorted(map(len, grouped(*requests, at_once=2)[0])) == [4, 4]
    assert sorted(map(len, grouped(*requests, at_once=2, size=3)[0])) == [2, 2, 2, 2]
    assert sorted(map(len, grouped(*requests, at_once=3)[0])) == [2, 3, 3]
    refused = [asked(f"seed.value={seed}", "optimizer.lr=-1") for seed in range(8)]
    assert sorted(map(len, grouped(*requests, *refused, at_once=2)[0])) == [*[1] * 8, 4, 4]
    others = [asked(f"seed.value={seed}", "model.hidden=[9]") for seed in range(2)]
    assert sorted(map(len, grouped(*requests, *others, at_once=2)[0])) == [2, 4, 4]
    assert sorted(map(len, grouped(*requests[:2], *others, at_once=2)[0])) == [2, 2]
    assert grouped(*requests, size=1) == (
        [[n] for n in range(8)],
        "fused 0 of 8 runs in 0 groups; 8 alone: hydra.launcher.group_size=1",
    )


def test_a_model_for_which_together_is_slower_trains_alone(monkeypatch):
    monkeypatch.setattr(group_size, "_seconds", lambda learner, x, y: float(learner.runs) ** 1.1)
    requests = [asked(f"seed.value={seed}") for seed in range(4)]
    assert (
        grouped(*requests)[1] == "fused 0 of 4 runs in 0 groups; 4 alone: together they would not be faster"
    )


def test_a_group_on_a_gpu_has_room_in_its_memory():
    requests = [asked(f"seed.value={seed}", "data.batch_size=32") for seed in range(8)]
    one = run.build(requests[0])
    # 13 features, 8 hidden, 3 classes: parameters with gradient, best, moved, two averages; Adam's counter;
    # and input, and outputs of the two linear layers and the ReLU, with gradients.
    numbers = 8 * 13 + 8 + 3 * 8 + 3
    bytes_of_a_run = 4 * (6 * numbers + 1 + 2 * 32 * (13 + 8 + 8 + 3))
    assert group_size.run_bytes(one) == bytes_of_a_run
    for memory, sizes in ((3.5, [2, 2, 2, 2]), (9, [4, 4]), (100, [8])):
        found = groups.groups(requests, 1, None, int(memory * bytes_of_a_run))
        assert [len(unit.requests) for unit in found.units] == sizes
    assert "the GPU's memory does not hold two" in str(groups.groups(requests, 1, None, bytes_of_a_run))


def test_free_memory_of_gpus(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nprintf '0, GPU-a, 1000\\n1, GPU-b, 300\\n'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert machine.free_memory(["0"]) == machine.free_memory(["GPU-a"]) == 1000 * 2**20
    assert machine.free_memory(["0", "1", "0", "1"]) == 150 * 2**20
    assert machine.free_memory([None, None]) is machine.free_memory(["7"]) is None
    script.write_text("#!/bin/sh\nexit 9\n")
    assert machine.free_memory(["0"]) is None


@pytest.mark.slow
def test_the_fastest_width_is_taken(monkeypatch):
    monkeypatch.setattr(
        group_size, "_seconds", lambda learner, x, y: learner.runs * (1 + abs(learner.runs - 8))
    )
    requests = [asked(f"seed.value={seed}") for seed in range(32)]
    assert {len(unit) for unit in grouped(*requests)[0]} == {8}


@pytest.mark.usefixtures("always_faster")
def test_runs_at_different_steps_are_apart():
    requests = [asked(f"seed.value={seed}") for seed in range(4)]
    for request, fused in zip(requests, [True, True, False], strict=False):
        (request.folder / "checkpoints" / "step-00000006").mkdir(parents=True)
        known = {"status": "interrupted", "environment": {"fused": fused}}
        (request.folder / "record.json").write_text(json.dumps(known))
    requests.append(asked("seed.value=4"))
    units, told = grouped(*requests)
    assert units == [[0, 1], [3, 4], [2]]
    assert (
        told
        == "fused 4 of 5 runs in 2 groups; 1 alone: begun alone; in a group it would not resume to the bit"
    )


@pytest.mark.usefixtures("always_faster")
def test_a_sweep_trains_together_and_alone_with_the_same_result(capfd):
    overrides = [
        ["seed.value=0"],
        ["seed.value=1", "init=xavier"],
        ["regularizer=dropout"],
        ["model.hidden=[9]"],
    ]
    fused = list(
        launch.train(
            [asked("output_dir=fused", *words) for words in overrides], launch.LocalSettings(max_parallel=1)
        )
    )
    alone = list(
        launch.train(
            [asked("output_dir=alone", *words) for words in overrides], launch.LocalSettings(fuse=False)
        )
    )
    for (_, one), (_, other) in zip(fused, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for request, _ in fused:
        assert status_of(request) == "finished"
        assert "finished" in (request.home / ".sweep" / "logs" / f"{request.id}.log").read_text()


def before_fit(monkeypatch, do):
    """Lets something happen in a process before it trains its runs."""
    fit = trainer.fit

    def fit_then(learner, data, task, runs, *others):
        do(runs)
        fit(learner, data, task, runs, *others)

    for home in (single, group):
        monkeypatch.setattr(home, "fit", fit_then)


def status_of(request):
    return record.read(request.folder)["status"]


@pytest.mark.usefixtures("always_faster")
def test_a_run_that_fails_in_a_group_fails_alone_and_no_other(monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(5)]

    def fail(runs):
        if any(one.order_seed == 3 for one in runs):
            raise RuntimeError("no luck")

    before_fit(monkeypatch, fail)
    outcomes = pool.train_all(requests, max_parallel=1)
    assert [status(outcome) for outcome in outcomes] == ["finished"] * 3 + ["failed", "finished"]
    assert "no luck" in " ".join(outcomes[3].last)


@pytest.mark.slow
@pytest.mark.usefixtures("always_faster")
def test_a_group_that_runs_out_of_memory_is_halved(monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(6)]

    def die(runs):
        if len(runs) > 2:
            os.kill(os.getpid(), signal.SIGKILL)

    before_fit(monkeypatch, die)
    outcomes = pool.train_all(requests, max_parallel=1)
    assert {status(outcome) for outcome in outcomes} == {"finished"}


@pytest.mark.slow
@pytest.mark.usefixtures("always_faster")
def test_why_a_group_goes_on_in_smaller_ones_is_said(monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(4)]

    def end(runs):
        if len(runs) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(runs) == 2 and runs[0].order_seed == 0:
            raise RuntimeError("no luck")

    before_fit(monkeypatch, end)
    said = []
    pool.train_all(requests, max_parallel=1, observer=News(said))
    assert said == [
        ("plan", "fused 4 of 4 runs in 1 group"),
        ("again", "4 runs, in smaller groups: killed by SIGKILL; perhaps the memory was full"),
        ("again", "2 runs, each alone: no luck"),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("always_faster")
@pytest.mark.parametrize("late", [False, True], ids=["before it begins", "after a checkpoint"])
def test_a_group_that_dies_anew_is_not_taken_for_what_was_there(late, monkeypatch):
    """Its runs begin anew once, and then go on."""
    pool.train_all([asked(f"seed.value={seed}") for seed in range(4)], max_parallel=1)
    requests = [asked(f"seed.value={seed}", "fresh=true", "checkpoint.steps=1") for seed in range(4)]
    train = run.train_together

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def train_or_die(requests):
        return die() if len(requests) == 4 else train(requests)

    def die_late(runs):
        save = runs[-1].checkpoints.save

        def save_and_die(step, *more):
            save(step, *more)
            while step == 3 and not all((one.folder / "checkpoints/last").exists() for one in requests):
                time.sleep(0.01)  # threads write them
            if step == 3:
                die()

        if len(runs) == 4:
            runs[-1].checkpoints.save = save_and_die

    if late:
        before_fit(monkeypatch, die_late)
    else:
        monkeypatch.setattr(group, "train_together", train_or_die)
    said = []
    outcomes = pool.train_all(requests, max_parallel=1, observer=News(said))
    assert said[1] == ("again", "4 runs, in smaller groups: killed by SIGKILL; perhaps the memory was full")
    assert [status(outcome) for outcome in outcomes] == ["finished"] * 4
    begun = [[attempt["from_step"] for attempt in record.read(one.folder)["attempts"]] for one in requests]
    assert all(first == 0 and all(later) and bool(later) == late for first, *later in begun)


@pytest.mark.usefixtures("always_faster")
def test_logs_that_are_removed_are_made_anew(monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(2)]

    def end(runs):
        if len(runs) == 2:
            shutil.rmtree("outputs/main/.sweep/logs")
            os.kill(os.getpid(), signal.SIGKILL)

    before_fit(monkeypatch, end)
    outcomes = pool.train_all(requests, max_parallel=1)
    assert all(status(outcome) == "finished" and outcome.log.exists() for outcome in outcomes)


@pytest.mark.parametrize("code", [0, 1, 15])
def test_a_process_that_is_left_without_a_word_has_failed(code, monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(2)]
    pool.train_all(requests, max_parallel=1)
    monkeypatch.setattr(load, "trainer", lambda: lambda request, fused: os._exit(code))
    anew = [asked(f"seed.value={seed}", "fresh=true") for seed in range(2)]
    outcomes = pool.train_all(anew, max_parallel=1, fuse=False)
    assert [status(outcome) for outcome in outcomes] == ["failed"] * 2
    assert outcomes[0].last[-1] == f"error: its process exited with code {code}"


def test_what_a_model_starts_when_it_is_tried_ends_with_that():
    def start():
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
        return pid

    pid = run_in_child(start)
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)


def test_a_model_that_closes_what_it_did_not_open_is_waited_for_in_peace(monkeypatch):
    looks, look = [], select.select

    def close():
        os.closerange(3, 1000)
        time.sleep(0.3)  # it lives on meanwhile

    monkeypatch.setattr(select, "select", lambda *ends: (looks.append(ends), look(*ends))[1])
    with pytest.raises(Failure):
        run_in_child(close)
    assert len(looks) < 100


@pytest.mark.slow
@pytest.mark.usefixtures("always_faster")
def test_a_run_whose_folder_is_removed_fails_and_no_other(monkeypatch):
    requests = [asked(f"seed.value={seed}", "checkpoint.steps=1") for seed in range(4)]

    def remove(runs):
        if len(runs) == 4:
            shutil.rmtree(requests[1].folder)

    before_fit(monkeypatch, remove)
    outcomes = pool.train_all(requests, max_parallel=1)
    assert [status(outcome) for outcome in outcomes] == ["finished", "failed", "finished", "finished"]
    assert "was removed while the run trained" in " ".join(outcomes[1].last)
    assert not requests[1].folder.exists()


def test_why_a_run_failed_is_told_where_its_log_cannot_be_written(monkeypatch):
    requests = [asked(f"seed.value={seed}") for seed in range(2)]

    def full(request, fused):
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        raise Failure("no room")

    monkeypatch.setattr(load, "trainer", lambda: full)
    outcomes = pool.train_all(requests, max_parallel=1, fuse=False)
    assert [outcome.last for outcome in outcomes] == [["error: no room"]] * 2


@pytest.mark.usefixtures("always_faster")
def test_a_run_that_another_process_trains_is_left_to_it():
    requests = [asked(f"seed.value={seed}") for seed in range(3)]
    with claim.claim_run(requests[1]):
        outcomes = pool.train_all(requests, max_parallel=1)
    assert [status(outcome) for outcome in outcomes] == ["finished", "elsewhere", "finished"]
    assert "is being trained by process" in " ".join(outcomes[1].last)


@pytest.mark.usefixtures("always_faster")
def test_what_is_wrong_with_one_is_said_by_it_alone():
    long, bad = ["early_stop=patience", "early_stop.patience=99"], ["optimizer.lr=-1"]
    sets = [long, [*long, "optimizer.lr=0.1"], bad, [], ["optimizer.lr=-2"], ["optimizer.lr=0.1"]]
    requests = [asked(f"seed.value={seed}", *extra) for seed, extra in enumerate(sets)]
    said = []
    outcomes = pool.train_all(requests, max_parallel=1, observer=News(said))
    assert said == [("plan", "fused 2 of 2 runs in 1 group")]  # the others are refused before it is made
    assert [status(outcome) for outcome in outcomes] == [*["refused"] * 3, "finished", "refused", "finished"]
    for place, wrong in [(0, "patience=99"), (1, "patience=99"), (2, "lr=-1"), (4, "lr=-2")]:
        assert [wrong in line for line in outcomes[place].last] == [True]
    assert all(record.read(requests[place].folder)["environment"]["fused"] for place in (3, 5))


def test_no_run_answers_for_the_fault_of_another():
    sets = [["early_stop=patience", "early_stop.patience=99"], [], ["optimizer.lr=-2"]]
    requests = [asked(f"seed.value={seed}", *extra) for seed, extra in enumerate(sets)]
    assert grouped(*requests)[1] == (
        "fused 0 of 3 runs in 0 groups; 3 alone: its configuration is refused (1), it or the others like it "
        "are refused (2)"
    )


@pytest.mark.usefixtures("always_faster")
def test_a_regularizer_that_cannot_be_built_is_its_run_s_alone(monkeypatch):
    mixes = groups._mixes

    def mixes_or_raises(request):
        if request.config["seed"]["value"] == 1:
            raise RuntimeError("no luck")
        return mixes(request)

    monkeypatch.setattr(groups, "_mixes", mixes_or_raises)
    requests = [asked(f"seed.value={seed}") for seed in range(3)]
    told = "fused 2 of 3 runs in 1 group; 1 alone: it cannot be tried (RuntimeError: no luck)"
    assert grouped(*requests) == ([[0, 2], [1]], told)


def test_a_process_for_each_is_no_group(always_faster):
    requests = [asked(f"seed.value={seed}") for seed in range(2)]
    found = groups.groups(requests, 2, None)
    assert [(len(unit.requests), unit.fused) for unit in found.units] == [(1, True), (1, True)]
    assert str(found) == "fused 0 of 2 runs in 0 groups; 2 alone: every run has a process of its own"


DANGEROUS = """
import os
import signal
from torch import nn
COUNT = []

class Counts(nn.Linear):
    def forward(self, x):
        COUNT.append(1)
        print("passed")
        return super().forward(x) * len(COUNT)

class Dies(nn.Linear):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGKILL)

class Leaves(nn.Linear):
    def forward(self, x):
        raise SystemExit(3)

class Locks(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle '_thread.lock' object. Or so.")
"""
NO_COPY = "its model cannot be copied (TypeError: cannot pickle '_thread.lock' object)"


@pytest.mark.usefixtures("always_faster")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Counts", ""),
        ("Dies", "killed by SIGKILL"),
        ("Leaves", "exited with code 1"),
        ("Locks", NO_COPY),
    ],
)
def test_what_a_model_does_when_it_is_tried_changes_nothing_here(name, why, tmp_path, monkeypatch, capfd):
    (tmp_path / "dangerous.py").write_text(DANGEROUS)
    monkeypatch.syspath_prepend(tmp_path)
    import dangerous

    own = getattr(dangerous, name)
    monkeypatch.setattr(from_config, "build", tried(run.build, own))
    told = grouped(*(asked(f"seed.value={seed}") for seed in range(3)))[1]
    assert why in told and told.startswith("fused 0 of 3 runs in 0 groups; 3 alone: ")
    assert dangerous.COUNT == [] and "passed" not in capfd.readouterr().out


def tried(build, own):
    """Builds a run whose model is another one."""

    def built(*args, **options):
        parts = build(*args, **options)
        for layer in parts.learner.model.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = own
        return parts

    return built


@pytest.mark.slow
def test_a_sweep_needs_no_output():
    command = f"exec {sys.executable} {ROOT / 'train.py'} -m {' '.join(SMALL)} progress=true seed.value=0,1"
    done = subprocess.run(["sh", "-c", f"{command} >&- <&-"], env=ENVIRONMENT)
    assert done.returncode == 0 and len(list(Path("outputs/main").glob("*/record.json"))) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("written_soon")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_goes_on_together(number, tmp_path):
    overrides = [
        "seed.value=0,1,2,3",
        "trainer.max_epochs=120",
        "checkpoint.steps=20",
        "hydra.launcher.group_size=2",
    ]
    small = [word for word in SMALL if not word.startswith("trainer.max")]
    command = [TRAIN, "-m", *small, *overrides]

    def logs():
        return list(Path("outputs/main").glob("*/metrics.jsonl"))

    with commands.popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        end = time.monotonic() + 60
        while sum(len(path.read_text().splitlines()) > 10 for path in logs()) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    while any(current_status(path.parent) == "running" for path in logs()):
        time.sleep(0.02)
    done = commands.run(command)
    assert done.returncode == 0, done.stderr
    for path in logs():
        steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert steps == sorted(steps) and record.read(path.parent)["status"] == "finished"
        seed = next(word for word in record.read(path.parent)["overrides"] if word.startswith("seed.value"))
        alone = composed(*small, *overrides[1:3], "output_dir=alone", seed)
        run.train(alone)
        found, wanted = record.read(path.parent), record.read(alone.folder)
        assert found["best"]["value"] == pytest.approx(wanted["best"]["value"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("always_faster")
def test_a_run_of_a_group_is_reproduced_to_the_bit(as_command):
    requests = [asked(f"seed.value={seed}", "regularizer=dropout") for seed in range(3)]
    pool.train_all(requests, max_parallel=1)
    for request in requests:
        code, out, err = as_command(str(ROOT / "scripts" / "reproduce.py"), str(request.folder))
        assert (code, err) == (0, "") and out.endswith("identical to the bit\n")


@pytest.mark.parametrize(("ours", "loads"), [(True, 1), (False, 2)])
def test_members_load_their_data_as_often_as_it_takes_to_know_them(ours, loads, monkeypatch):
    loaded, plain = [], from_config._loaded
    monkeypatch.setattr(from_config, "_loaded", lambda *values: loaded.append(1) or plain(*values))
    if not ours:
        monkeypatch.setattr(group, "OURS", "another.package.")
    _, members = group._members([asked(f"seed.value={seed}") for seed in range(4)])
    assert len(loaded) == loads and all(parts.data is members[0].data for parts in members)


@pytest.mark.parametrize("place", [1, 2])
def test_runs_with_other_data_are_no_group_wherever_they_stand(place):
    requests = [asked(f"seed.value={seed}") for seed in range(3)]
    requests[place] = asked("data.split_seed=3")
    with pytest.raises(Unfusable, match="their data differ"):
        group._members(requests)


def test_all_networks_of_a_group_are_examined_before_its_first_file_is_written(monkeypatch):
    done = []
    examined, described = advice.diagnose, session._write_description
    monkeypatch.setattr(advice, "diagnose", lambda parts: done.append("examined") or examined(parts))
    monkeypatch.setattr(
        session, "_write_description", lambda *values: done.append("written") or described(*values)
    )
    requests = [asked(f"seed.value={seed}") for seed in range(3)]
    run.train_together(requests)
    assert done == 3 * ["examined"] + 3 * ["written"]
    starts = [record.read(request.folder)["start"] for request in requests]
    assert len({start["loss"] for start in starts}) == 3
    for request, start in zip(requests, starts, strict=True):
        alone = rounded(examined(from_config.build(request)).table())
        assert [start["loss"], start["complaints"]] == [alone["loss"], alone["complaints"]]
        for layer, other in zip(start["layers"], alone["layers"], strict=True):
            assert [layer["std"], layer["gradient_norm"]] == [other["std"], other["gradient_norm"]]
