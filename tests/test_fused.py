"""Runs trained as one program are the runs alone: the same log, the same weights, the same end.

In float64 whole trainings agree to 1e-9, for each option of each group and for mixtures of them.
"""

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import CONF, composed

from sweepwise import run
from sweepwise.data import Part, split
from sweepwise.errors import UsageError
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.run import from_config
from sweepwise.store import record
from sweepwise.system import signals
from sweepwise.trainer import meter
from sweepwise.verify import compare as compare_module

CLOSE = 1e-9
SMALL = [
    "data=digits",
    "data.examples=200",
    "data.batch_size=15",
    "trainer.device=cpu",
    "trainer.max_epochs=26",  # 208 steps of 8 an epoch, the last of which is smaller
    "early_stop=none",
    "progress=false",
    "checkpoint=end",
    "monitor.scalars_every=7",
    "monitor.histograms_every=40",
]

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def in_double(monkeypatch):
    """Whole runs in float64, where a difference is no rounding."""
    own = split

    def doubled(*arrays, **options):
        data = own(*arrays, **options)
        parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
        kind = torch.long if data.classes else torch.double
        return replace(data, **{n: Part(p.x.double(), p.y.to(kind)) for n, p in parts.items()})

    monkeypatch.setattr(from_config, "split", doubled)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def asked(where, *overrides):
    narrow = [] if any(word.startswith("model=") for word in overrides) else ["model.hidden=[12,10]"]
    return composed(*SMALL, *narrow, f"output_dir={where}", *overrides)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def alike(one, other):
    """Whether two numbers differ by no more than the order of sums in float64 explains."""
    if one is None or other is None or isinstance(one, str):
        return one == other
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-11)


def compare(one, other, but=()):
    """Two folders of the same run; `but` names metrics of which rounding decides."""
    known, wanted = record.read(one), record.read(other)
    for key in ("id", "status", "init", "notes", "overrides"):
        if key != "overrides":
            assert known[key] == wanted[key]
    for key in ("epoch", "step"):
        assert known["best"][key] == wanted["best"][key] and known["stopped"][key] == wanted["stopped"][key]
    found, expected = lines(one), lines(other)
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, right in zip(found, expected, strict=True):
        told = [key for key in right if not any(word in key for word in but)]
        assert not {k: (line[k], right[k]) for k in told if not alike(line[k], right[k])}, line["step"]
    for name in ("last", "best"):
        paths = [folder / "checkpoints" / name / "weights.safetensors" for folder in (one, other)]
        assert paths[0].exists() == paths[1].exists()
        if paths[0].exists():
            weights, right = map(load_file, paths)
            assert weights.keys() == right.keys()
            for key in (key for key in right if not any(word in key for word in but)):
                tensor = right[key]
                torch.testing.assert_close(weights[key], tensor, rtol=CLOSE, atol=1e-11)


def check(*sets, common=(), but=()):
    """Trains runs together and each alone, and compares."""
    together = [asked("together", *common, *overrides) for overrides in sets]
    assert run.train_together(together) == 0
    for request, overrides in zip(together, sets, strict=True):
        other = asked("alone", *common, *overrides)
        run.train(other)
        compare(request.folder, other.folder, but)


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


IMAGES = ["data.image=true", "model=cnn2d", "model.channels=[4,6]", "model.hidden=[12]"]
# What an option needs beside itself, or no run of these can do.
NEEDS = {
    "init=checkpoint": None,  # a file
    "optimizer=sgd": ["optimizer.lr=0.01"],  # at 0.1 rounding grows to another training within 150 steps
    "init=identity": ["model.hidden=[10,10]"],
    "init=delta_orthogonal": ["model=cnn1d", "model.kernels=[3]", "model.channels=[8]", "data=mnist1d"],
    "scheduler=other": ["scheduler._target_=torch.optim.swa_utils.SWALR", "+scheduler.swa_lr=1e-4"],
    "optimizer=other": ["optimizer._target_=torch.optim.Adamax", "optimizer.lr=0.002"],
    "regularizer=spectral_norm": None,  # changes the layers themselves: alone
    **{f"regularizer={name}": IMAGES for name in ("cutout", "flip", "rotation", "shift_crop")},
}


def sets_of(option):
    """Two runs with the option, that differ in the seed, and one of the same kind with another number."""
    asked = [option, *NEEDS.get(option, [])]
    return [asked, [*asked, "seed.value=1"], [*asked, "seed.value=2", "trainer.ema=0.5"]]


@pytest.mark.slow
@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(
    "sets",
    [
        pytest.param([["init=xavier"], ["init=kaiming", "seed.value=3"]], id="init and seed"),
        pytest.param(
            [
                ["scheduler=plateau", "scheduler.patience=1"],
                ["scheduler=cosine", "optimizer.lr=0.01"],
                ["regularizer=[l1,dropout]", "scheduler=onecycle"],
                ["regularizer=[weight_decay,clip_norm]", "trainer.ema=0.9"],
                ["regularizer=max_norm", "regularizer.max_norm.limit=0.5"],
            ],
            id="schedules and regularizers",
        ),
        pytest.param(
            [
                ["regularizer=[mixup,dropout]"],
                ["regularizer=label_smoothing", "seed.value=1"],
                ["regularizer=[input_noise,l2]", "optimizer.lr=0.01"],
            ],
            id="examples",
        ),
        pytest.param(
            [
                ["early_stop=patience", "early_stop.patience=2", "optimizer.lr=0.03"],
                ["early_stop=patience", "early_stop.patience=4", "seed.value=1", "optimizer.lr=0.03"],
                ["seed.value=2"],
            ],
            id="early stopping",
        ),
    ],
)
def test_mixtures(sets):
    check(*sets)


@pytest.mark.slow
@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(
    "option",
    [
        f"{group}={name}"
        for group in ("init", "scheduler", "optimizer", "regularizer", "early_stop")
        for name in options(group)
        if NEEDS.get(f"{group}={name}", []) is not None
    ],
)
def test_every_option(option):
    ties = ["accuracy"] if option in ("init=zeros", "init=constant") else []  # all outputs are alike
    check(*sets_of(option), but=ties)


@pytest.mark.slow
@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(
    "common",
    [
        ["model=linear"],
        ["model=deep_tanh", "model.hidden=[10,10,10,10]"],
        ["model.norm=batch"],
        ["model.norm=layer"],
        IMAGES,
        ["data.image=true", "model=resnet", "model.depth=8", "model.width=4"],
        ["data.image=true", "model=transformer", "model.dropout=0", "model.width=16", "model.patch=2"],
        ["data=diabetes"],
        ["trainer.class_weights=balanced"],
        ["trainer.metrics=[accuracy,ece,balanced_accuracy]", "trainer.validate_every=3"],
        ["seed.data=5", "seed.init=6"],
    ],
    ids=" ".join,
)
def test_models_and_data(common):
    # Gradients that are 0, but for rounding: of a bias before a norm, and of a bias that softmax takes out.
    nought = {"model.norm=batch": ["bias", "running_mean"], "model=transformer": ["key.bias"]}
    nought = [word for option, words in nought.items() if option in common for word in words]
    sets = ["seed.value=0"], ["seed.value=1", "regularizer=l2"]
    check(*sets, common=["trainer.max_epochs=4", *common], but=nought)


@pytest.mark.parametrize("flush", [3, 64], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_diverges_harms_no_other(flush, workers, monkeypatch, in_double):
    monkeypatch.setattr(meter, "FLUSH_STEPS", flush)
    sgd = ["optimizer=sgd", f"trainer.workers={workers}"]
    sets = [[*sgd, "optimizer.lr=1e200"], [*sgd, "optimizer.lr=0.02", "init=kaiming"]]
    together = [asked("together", *overrides) for overrides in sets]
    run.train_together(together)
    assert [record.read(request.folder)["status"] for request in together] == ["diverged", "finished"]
    for request, overrides in zip(together, sets, strict=True):
        other = asked("alone", *overrides)
        run.train(other)
        known, wanted = record.read(request.folder), record.read(other.folder)
        assert known["stopped"]["step"] == wanted["stopped"]["step"]
        assert known["reason"].partition(",")[0] == wanted["reason"].partition(",")[0]
    assert known["last"] == pytest.approx(wanted["last"], rel=1e-9)


@pytest.mark.slow
def test_the_bits_of_a_run_do_not_depend_on_the_others():
    one = ["init=xavier", "regularizer=dropout", "scheduler=cosine"]
    others = [["seed.value=1"], ["optimizer.lr=0.1", "regularizer=l1"], ["seed.value=2", "scheduler=step"]]
    folders = []
    for place, order in enumerate(itertools.permutations([one, *random.Random(0).sample(others, 2)])):
        requests = [asked(f"place{place}", *overrides) for overrides in order]
        run.train_together(requests)
        folders += [request.folder for request in requests if "init=xavier" in request.overrides]
    assert len(folders) == 6
    assert len({(folder / "metrics.jsonl").read_text() for folder in folders}) == 1
    weights = {(folder / "checkpoints/last/weights.safetensors").read_bytes() for folder in folders}
    assert len(weights) == 1


@pytest.mark.parametrize(
    "common",
    [
        ["data.batch_size=37", "regularizer=dropout"],
        *(
            pytest.param(common, marks=pytest.mark.slow)
            for common in (["data.examples=null"], ["model.norm=batch"], ["data.image=true", "model=cnn2d"])
        ),
    ],
    ids=" ".join,
)
def test_the_bits_of_a_run_do_not_depend_on_how_many_they_are(common):
    found = {}
    for runs in (1, 2, 3, 5):
        requests = [
            asked(f"runs{runs}", "trainer.max_epochs=3", *common, f"seed.value={n}") for n in range(runs)
        ]
        run.train(requests[0], fused=True) if runs == 1 else run.train_together(requests)
        for n, request in enumerate(requests):
            found.setdefault(n, []).append(request.folder)
    for first, *others in found.values():
        assert [line for other in others for line in compare_module.compare(first, other)] == []


@pytest.mark.slow
def test_runs_of_a_group_that_is_stopped_go_on_to_the_bit_together_or_alone(monkeypatch):
    sets = [
        ["init=xavier", "regularizer=dropout"],
        ["init=kaiming", "scheduler=plateau"],
        ["trainer.ema=0.9"],
        ["optimizer.lr=1e30"],  # leaves the group in the middle of its first epoch
        ["early_stop=patience", "early_stop.patience=1", "early_stop.min_delta=9"],
    ]
    monkeypatch.setattr(meter, "FLUSH_STEPS", 3)
    stops = iter([0] * 100 + [15] * 1000)

    def asked_to_stop(self):
        self.signal = next(stops)
        return bool(self.signal)

    together = [asked("together", *overrides) for overrides in sets]
    with monkeypatch.context() as patched:
        patched.setattr(signals.StopFlag, "__call__", asked_to_stop)
        assert run.train_together(together) == 15
    statuses = [record.read(request.folder)["status"] for request in together]
    assert statuses == ["interrupted"] * 3 + ["diverged", "stopped early"]
    run.train(together[2])
    assert run.train_together(together[:2]) == 0
    unbroken = [asked("unbroken", *overrides) for overrides in sets]
    run.train_together(unbroken)
    for request, other in zip(together, unbroken, strict=True):
        assert compare_module.compare(request.folder, other.folder) == []
        assert record.read(request.folder)["not_bit_exact"] == []


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        ([["regularizer=spectral_norm"], ["regularizer=spectral_norm", "seed.value=1"]], "cannot be stacked"),
        ([["regularizer=spectral_norm"], ["seed.value=1"]], "do not have the same layers"),
        ([["regularizer=mixup"], ["seed.value=1"]], "examples"),
    ],
)
def test_what_cannot_be_one_program_says_why_and_leaves_nothing(sets, why):
    with pytest.raises(Unfusable, match=why):
        run.train_together([asked("together", *overrides) for overrides in sets])
    assert not Path("together").exists()


def test_what_is_wrong_with_one_is_found_before_anything_is_written():
    with pytest.raises(UsageError, match=r"optimizer\.lr"):
        run.train_together([asked("together"), asked("together", "optimizer.lr=-1")])
    assert not Path("together").exists()


def test_who_is_refused_is_left_out_of_a_group():
    sets = [["optimizer.lr=-1"], ["seed.value=1"], ["early_stop=patience", "early_stop.patience=99"], []]
    requests = [asked("together", *overrides) for overrides in sets]
    assert run.train_together(requests) == 0
    assert [request.folder.exists() for request in requests] == [False, True, False, True]
    assert all(record.read(request.folder)["status"] == "finished" for request in requests[1::2])


def test_a_dropped_run_costs_no_work():
    parts = [run.build(asked("x", f"seed.value={seed}")) for seed in range(4)]
    learner = FusedLearner([part.learner for part in parts], parts[0].data.sample(8)[0])
    x, y = parts[0].data.sample(15)
    seen = []

    def listen():
        plain = learner._program.train
        learner._program.train = lambda x, heard: seen.append(x.shape[:2].numel()) or plain(x, heard)

    listen()
    batch = x.repeat(4, 1), y.repeat(4), torch.full((4,), 1e-3).numpy()
    learner.step(*batch, 0, 0)
    before = parts[1].learner.flat.values.clone()
    learner.drop(1)
    batch = x.repeat(3, 1), y.repeat(3), torch.full((4,), 1e-3).numpy()
    losses, outputs = learner.step(*batch, 1, 0)
    listen()
    learner.step(*batch, 2, 0)
    assert seen == [60, 45] and outputs.shape == (3, 15, 10) and losses.shape == (3,)
    assert torch.equal(parts[1].learner.flat.values, before)
    assert not torch.equal(parts[2].learner.flat.values, before)
