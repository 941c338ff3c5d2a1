"""Processes that share out parameters, gradients and optimizer state: they train as one, to rounding."""

import json
import pickle
import signal
import weakref
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from worlds import (
    ADAM,
    SGD,
    Log,
    classes,
    close,
    doubled,
    even,
    folder_of,
    network,
    numbers,
    outcomes,
    request,
    started,
    together,
)

import sweepwise
from sweepwise import build, parts
from sweepwise.data import split
from sweepwise.data.digits import digits
from sweepwise.distributed.join import join_world
from sweepwise.distributed.place import Place
from sweepwise.distributed.ranks import Ranks
from sweepwise.distributed.world import SINGLE_PROCESS
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.learner import Watch
from sweepwise.learner.parallel.fsdp_limits import blocks
from sweepwise.library import building
from sweepwise.model.cnn import cnn
from sweepwise.model.recurrent import recurrent
from sweepwise.model.transformer import transformer
from sweepwise.optimizer import FlatOptimizer
from sweepwise.optimizer.muon import Muon
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.clip_value import ClipValue
from sweepwise.regularizer.elastic_net import ElasticNet
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.label_smoothing import LabelSmoothing
from sweepwise.regularizer.max_norm import MaxNorm
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.orthogonal import Orthogonal
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.run.follow import StepSync
from sweepwise.store.record import read
from sweepwise.system.progress import Silent
from sweepwise.trainer import Run, Settings, fit
from sweepwise.trainer.protocols import NoCheckpoints
from sweepwise.verify.compare import compare

pytestmark = pytest.mark.usefixtures("in_double")


@cache
def images():
    return doubled(split(digits(image=True), examples=120, batch_size=25))


class Tied(nn.Module):
    """Two layers with one weight, a third that is not trained and a fourth that takes no part."""

    def __init__(self, features, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(features[0], 9), nn.Linear(9, 9)
        self.third, self.fourth = nn.Linear(9, 9), nn.Linear(9, 9).requires_grad_(False)
        self.third.weight = self.second.weight
        self.idle, self.output = nn.Linear(5, 3), nn.Linear(9, outputs)

    def forward(self, x):
        for layer in (self.first, self.second, self.third, self.fourth):
            x = layer(x).tanh()
        return self.output(x)


class Encoder(nn.Module):
    """torch's own transformer, whose layers are in a ModuleList; and a view that is changed in place."""

    def __init__(self, features, outputs):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.output = nn.Linear(8, outputs)

    def forward(self, x):
        x = self.embed(x.view(-1, 8, 8))
        x += 1
        return self.output(self.encoder(x).mean(1))


def made(build_model: Callable[..., nn.Module], **options) -> Callable[..., nn.Module]:
    return lambda features, outputs: build_model(features, outputs, **options).double()


LONG = {"max_epochs": 34}  # 204 steps of at most 24 examples, the last one of an epoch of 1
SHORT = {"max_epochs": 6}  # for more processes than two, whose steps cost the more
CASES = {
    "adam and all": {
        "settings": LONG | {"ema": 0.9, "accumulate": 2, "class_weights": "balanced"},
        "regularizers": lambda: [L1(coefficient=1e-4), L2(coefficient=1e-3), LabelSmoothing(), ClipNorm()],
    },
    "sgd and all": {
        "settings": LONG,
        "optimizer": SGD,
        "model": partial(network, norm="layer"),
        "regularizers": lambda: [
            WeightDecay(coefficient=0.1),
            ElasticNet(alpha=1e-3, proximal=True),
            ClipValue(limit=0.1),
            Mixup(alpha=0.5),
        ],
    },
    "early stopping": {
        "settings": {"max_epochs": 30},
        "early_stop": lambda: Patience(patience=1, min_delta=0.2),
    },
    "divergence": {"optimizer": partial(torch.optim.SGD, lr=1e200)},
    "regression": {"data": numbers},
    "batch norm": {"data": even, "model": partial(network, norm="batch")},
    "transformer": {"data": images, "model": made(transformer, patch=4, width=12, positions="learned")},
    "gru": {"data": images, "model": made(recurrent, cell="gru", width=7)},
    "tied": {"model": made(Tied)},
    "torch's encoder": {"model": made(Encoder)},
}
OPTIMIZERS = {
    name: {"optimizer": partial(getattr(torch.optim, name), lr=0.01), "settings": {"max_epochs": 5}}
    for name in ("ASGD", "Adadelta", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")
}
MORE = {
    "accumulate": {"settings": {"accumulate": 7}},  # more pieces than a process has examples
    "cnn": {"data": images, "model": made(cnn, dimensions=2, channels=[6], kernels=[3], hidden=[5])},
    "lstm": {"data": images, "model": made(recurrent, cell="lstm", width=7, layers=2, bidirectional=True)},
    "amsgrad": {"optimizer": partial(torch.optim.AdamW, lr=0.01, amsgrad=True)},
    "decay of all": {"optimizer": partial(FlatOptimizer, partial(torch.optim.AdamW, lr=0.01), decay="all")},
    **OPTIMIZERS,
}


def as_one(folder: Path, size: int, name: str) -> None:
    case = (CASES | MORE)[name]
    case.get("data", classes)()  # once, before the forks
    length = SHORT if size > 2 and name.endswith("and all") else {}
    cut = {name: case | {"settings": case.get("settings", {}) | length | {"parallel": "fsdp"}}}
    found = [rank[name] for rank in outcomes(folder / "parts", size, cut)]
    ((alone,),) = (rank.values() for rank in outcomes(folder / "alone", 1, cut))
    if name == "divergence":
        assert {one["status"] for one in found} == {alone["status"]} == {"diverged"}
        return
    close(alone, found[0])
    seen = [{key: one[key] for key in one if key not in ("weights", "kept")} for one in found]
    assert {pickle.dumps(one) for one in seen} == {pickle.dumps(seen[0])}  # but rank 0 alone gathers weights
    assert len(alone["steps"])
    assert (name != "early stopping") or alone["status"] == "stopped early"


SLOW_CASES = ("sgd and all", "adam")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith(SLOW_CASES) else n for n in CASES]
)
@pytest.mark.parametrize("size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 4))])
def test_parts_train_as_one(tmp_path, size, name):
    as_one(tmp_path, size, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("size", [2, 4])
def test_more_parts_train_as_one(tmp_path, size, name):
    as_one(tmp_path, size, name)


# ---- what a process holds ----


class Live(TorchDispatchMode):
    """The most bytes that tensors made inside held at once."""

    def __init__(self):
        super().__init__()
        self._storages, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and type(tensor) is not torch.distributed.tensor.DTensor:
                storage = tensor.untyped_storage()
                self._storages.setdefault(storage._cdata, weakref.ref(storage))
        held = (reference() for reference in self._storages.values())
        self.peak = max(self.peak, sum(storage.nbytes() for storage in held if storage is not None))
        return result


def test_a_process_holds_its_share_and_never_a_whole_gradient(tmp_path):
    layers, width, size = 16, 64, 4
    whole = (layers * (width * width + width) + width * 10 + 10) * 8  # bytes in float64
    data = split(digits(), examples=40, batch_size=4)

    def held() -> int:
        with join_world() as world:
            built = assembled(
                world,
                data=doubled(data),
                model=partial(network, hidden=[width] * layers),
                optimizer=ADAM,
                settings=Settings(device="cpu", ema=0.9, parallel="fsdp"),
            )
            learner, (x, y) = built.learner, built.data.sample(4)
            passes, peaks = learner._passes, []

            def watched(*batch):
                with Live() as live:
                    result = passes(*batch)
                peaks.append(live.peak)
                return result

            learner._passes = watched
            for step in range(3):
                learner.step(world.padded_shard(x), y, np.array([0.01]), step, Watch.NOTHING)
            learner.save_best(0)
            local = [p.to_local() for p in built.model.parameters()]
            row = learner.flat.values
            assert {p.untyped_storage().data_ptr() for p in local} == {row.untyped_storage().data_ptr()}
            state = [t for group in learner.optimizer.optimizer.state.values() for t in group.values()]
            gradients = [p.grad.to_local() for p in built.model.parameters()]
            found = {
                "parameters": row.nbytes,
                "optimizer": sum(t.nbytes for t in state),
                "average": learner._average.row.nbytes,
                "best": learner._best[0].nbytes,
                "gradients": sum(gradient.nbytes for gradient in gradients),
                "peak": max(peaks[1:]),
            }
            (tmp_path / f"{world.rank}.json").write_text(json.dumps(found))
        return 0

    processes = started(tmp_path, size, held)
    assert [process.wait() for process in processes] == [0] * size, processes[0].output.read_text()
    for rank in range(size):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.pop("optimizer") == pytest.approx(2 * whole / size, rel=0.01)
        # All that the passes make, beside parts of gradients: the gathered blocks and their gradients.
        assert found.pop("peak") < 0.6 * whole
        assert found == {key: pytest.approx(whole / size, rel=0.01) for key in found}


def test_blocks_are_what_is_called():
    def named(model):
        names = {id(module): name for name, module in model.named_modules()}
        return [names[id(block)] for block in blocks(model)]

    assert named(transformer((8, 8), 3, patch=4, layers=2)) == ["embed", "block0", "block1", "norm", "output"]
    layers = ["encoder.layers.0", "encoder.layers.1"]
    assert named(Encoder((64,), 3)) == ["embed", *layers, "output"]
    assert named(Tied((4,), 3)) == ["first", "fourth", "idle", "output"]
    assert named(nn.Linear(2, 3)) == []


# ---- what is refused ----


def assembled(world, **chosen):
    before = building.assemble
    building.assemble = partial(parts.assemble, world=world)
    try:
        return build(**chosen)
    finally:
        building.assemble = before


class Noisy(Regularizer):
    def before_step_(self, weights, gradient, rate):
        gradient.add_(torch.randn_like(gradient))


class Scaled(nn.Linear):
    def __init__(self, features, outputs):
        super().__init__(features[0], outputs)
        self.scale = nn.Parameter(torch.ones(()))


REFUSED = {
    "compile": ({"settings": {"compile": True}}, "trainer.compile=true: must be false"),
    "fp16": ({"settings": {"precision": "fp16"}}, "trainer.precision=fp16: must be bf16 or fp32"),
    "max norm": ({"regularizers": [MaxNorm()]}, "regularizer=MaxNorm: must act by element"),
    "orthogonal": ({"regularizers": [Orthogonal()]}, "regularizer=Orthogonal: must act by element"),
    "one's own": ({"regularizers": [Noisy()]}, "regularizer=Noisy: must act by element"),
    "spectral norm": ({"regularizers": [SpectralNorm()]}, "model: linear0 must not be parametrized"),
    "scalar": ({"model": Scaled}, r"model: scale must have at least one axis .* give it the shape \(1,\)"),
    "muon": ({"optimizer": partial(Muon, lr=0.1)}, "optimizer: Muon must act by element"),
    "adafactor": (
        {"optimizer": partial(torch.optim.Adafactor, lr=0.1)},
        "optimizer: Adafactor must act by element .* use optimizer=adamw, or use trainer.parallel=ddp",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_is_refused(name):
    given, words = REFUSED[name]
    chosen = {"data": classes(), "model": network, "optimizer": ADAM} | given
    settings = Settings(**{"device": "cpu", "parallel": "fsdp"} | chosen.pop("settings", {}))
    with pytest.raises(UsageError, match=words) as refused:
        assembled(Ranks(Place(1, 2, 1)), settings=settings, **chosen)
    assert len(refused.value.faults) == 1
    assert "trainer.parallel=fsdp" in str(refused.value) and "trainer.parallel=ddp" in str(refused.value)
    if name not in ("compile", "fp16"):
        assembled(SINGLE_PROCESS, settings=settings, **chosen)


def test_a_refusal_is_said_once_and_leaves_nothing(tmp_path):
    codes, told = together(tmp_path, 2, "trainer.parallel=fsdp", "optimizer=muon", "model.hidden=[12,12]")
    assert codes == [2, 2]
    assert told.count("error:") == told.count("Muon must act by element with trainer.parallel=fsdp") == 1
    assert not (tmp_path / "main").exists()


def test_one_process_trains_the_same_with_either():
    found = []
    for parallel in ("ddp", "fsdp"):
        settings = Settings(device="cpu", parallel=parallel, max_epochs=2)
        built = build(data=classes(), model=network, optimizer=ADAM, settings=settings)
        found.append(sweepwise.fit(built).history)
    assert found[0] == found[1]


# ---- checkpoints ----


class Caught(NoCheckpoints):
    """Keeps the last checkpoint, as it would be written."""

    saved = None

    def finish(self, step, weights, best, state):
        self.saved = pickle.dumps((weights, best, state))


def leg(world, parallel: str, saved: bytes, until: int) -> tuple[bytes, dict]:
    """Goes on from a checkpoint until so many steps have been taken; returns the next one and what became."""
    built = assembled(
        world,
        data=classes(),
        model=network,
        optimizer=ADAM,
        regularizers=[L1(coefficient=1e-4), ClipNorm(max_norm=0.5)],
        settings=Settings(device="cpu", ema=0.9, max_epochs=4, parallel=parallel),
    )
    caught = Caught()
    one = Run(built.schedule, built.early_stop, built.seeds.data, Log(), caught)
    taken = 0
    if saved:
        weights, best, state = pickle.loads(saved)
        taken = state["step"]
        built.learner.load_state_dict(0, weights, best[1] if best else {}, state["learner"])
        one.load_state_dict(state)

    def interrupted() -> bool:
        nonlocal taken
        taken += 1
        return taken == until

    fit(built.learner, built.data, built.task, [one], built.settings, Silent(), interrupted, world)
    weights = {name: tensor.numpy() for name, tensor in built.learner.model_state_dict(0, best=True).items()}
    history = np.array([list(values.values()) for values in one.history])
    return caught.saved, {
        "weights": weights,
        "history": history,
        "metrics": np.array(list(one.metrics.values())),
    }


def relayed(folder: Path, way: list[tuple[int, str]]) -> tuple[list, dict]:
    """A training that is handed on from world to world every few steps; its checkpoints, and what became."""
    saved, checkpoints, became = b"", [], {}
    for number, (size, parallel) in enumerate(way):
        home = folder / str(number)
        until = 4 + 7 * number if number + 1 < len(way) else 0

        def train(saved=saved, home=home, parallel=parallel, until=until) -> int:
            with join_world() as world:
                found = leg(world, parallel, saved, until)
                if world.leads:
                    (home / "found.pkl").write_bytes(pickle.dumps(found))
            return 0

        processes = started(home, size, train)
        assert [process.wait() for process in processes] == [0] * size, processes[0].output.read_text()
        saved, became = pickle.loads((home / "found.pkl").read_bytes())
        checkpoints.append(pickle.loads(saved))
    return checkpoints, became


def layout(value):
    """Of a checkpoint all that does not hang on who has made it."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.device
    if isinstance(value, dict):
        return {key: layout(item) for key, item in value.items()}
    return [layout(item) for item in value] if isinstance(value, (list, tuple)) else type(value)


@pytest.mark.slow
def test_a_run_goes_on_in_any_world(tmp_path):
    """In the middle of epochs and after them; begun and ended alone, by copies and by parts."""
    alone, expected = relayed(tmp_path / "alone", [(1, "ddp")] * 4)
    way = [(2, "fsdp"), (1, "fsdp"), (2, "ddp"), (2, "fsdp")]
    for name, order in {"one": way, "other": [way[1], way[0], way[2], way[1]]}.items():
        found, became = relayed(tmp_path / name, order)
        close(expected, became)
        for one, other in zip(alone[:-1], found[:-1], strict=True):
            assert one[0].keys() == other[0].keys()
            assert layout(one[0]) == layout(other[0]) and layout(one[1]) == layout(other[1])
            learned, again = (checkpoint[2]["learner"] for checkpoint in (one, other))
            for state in (learned, again):
                state.pop("ready_order", None)  # only copies of a model have one
            assert layout(learned) == layout(again)
            tensors = [t.numpy() for t in tree_leaves([one[0], learned]) if isinstance(t, torch.Tensor)]
            others = [t.numpy() for t in tree_leaves([other[0], again]) if isinstance(t, torch.Tensor)]
            for tensor, same in zip(tensors, others, strict=True):
                close(tensor, same)


@pytest.mark.slow
def test_a_run_goes_on_in_larger_worlds(tmp_path):
    _, expected = relayed(tmp_path / "alone", [(1, "ddp")])
    way = [(4, "fsdp"), (3, "fsdp"), (4, "ddp"), (4, "fsdp")]
    close(expected, relayed(tmp_path / "way", way)[1])


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_it_goes_on_to_the_bit(tmp_path, monkeypatch, size):
    chosen = (
        "trainer.parallel=fsdp",
        "trainer.max_epochs=4",
        "trainer.ema=0.9",
        "model.hidden=[15,9]",
        "regularizer=dropout",
        "monitor.histograms_every=5",
        "monitor.scalars_every=2",
    )
    codes, told = together(tmp_path / "whole", size, *chosen)
    assert codes == [0] * size, told
    pulse = StepSync.__call__

    def signalled(self):
        if self._step == 7 and self._world.rank == size - 1:
            self._interrupts.signal = signal.SIGTERM
        return pulse(self)

    with monkeypatch.context() as patched:
        patched.setattr(StepSync, "__call__", signalled)
        codes, told = together(tmp_path / "cut", size, *chosen)
        assert codes == [143] * size, told
    codes, told = together(tmp_path / "cut", size, *chosen)
    assert codes == [0] * size, told
    assert "from step 8" in told and "not bit-exact" not in told
    folders = [folder_of(tmp_path / name) for name in ("whole", "cut")]
    assert [str(found) for found in compare(*folders)] == []


def test_what_is_logged_is_that_of_one_process(tmp_path):
    """Histograms, the graph and the report of the start too; activations are those of rank 0's examples."""
    often = ("monitor.histograms_every=3", "monitor.scalars_every=1")
    chosen = ("optimizer=sgd", "trainer.max_epochs=2", *often)
    for home, size in {"alone": 1, "parts": 2}.items():
        codes, told = together(tmp_path / home, size, "trainer.parallel=fsdp", "regularizer=l1", *chosen)
        assert codes == [0] * size, told
        assert "not examined" not in told
    alone, parted = (folder_of(tmp_path / home) for home in ("alone", "parts"))
    assert alone.name == parted.name and "parallel" not in alone.name
    logs = [(at / "metrics.jsonl").read_text().splitlines() for at in (alone, parted)]
    lines = [list(map(json.loads, log)) for log in logs]
    assert len(lines[0]) > 10
    for one, other in zip(*lines, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            if not key.startswith("activations"):
                assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), key
    assert read(parted)["environment"]["parallel"] == "fsdp" and "parallel" not in read(alone)["environment"]
    assert read(parted)["start"]["layers"] == read(alone)["start"]["layers"]


def test_it_is_the_same_run_either_way(tmp_path):
    ids = {request(tmp_path, f"trainer.parallel={parallel}").id for parallel in ("ddp", "fsdp")}
    assert len(ids) == 1
