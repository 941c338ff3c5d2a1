"""Models are tried before anything is written: the form of their outputs, the sizes of batches."""

import itertools
import pickle
import queue
from functools import partial

import numpy as np
import own_models
import pytest
import torch
from small import CONF, TINY, composed
from torch import nn
from torch.utils.checkpoint import checkpoint

from sweepwise import Settings, UsageError, build, cli, fit, initialize_, run, split
from sweepwise import parts as parts_module
from sweepwise.data.digits import digits
from sweepwise.data.sklearn_sets import diabetes
from sweepwise.learner import first_passes
from sweepwise.learner.fused import FusedLearner, Unfusable
from sweepwise.learner.module import ModuleLearner
from sweepwise.model.mlp import mlp
from sweepwise.model.resnet import resnet
from sweepwise.run import from_config
from sweepwise.store import record

SGD = partial(torch.optim.SGD, lr=0.1)


def parts(model, data=None, batch_size=64, accumulate=1, **options):
    data = data or split(digits(), batch_size=batch_size, examples=200)
    settings = Settings(device="cpu", max_epochs=1, accumulate=accumulate)
    return build(data=data, model=model, optimizer=SGD, settings=settings, **options)


class Head(nn.Module):
    def __init__(self, features, outputs, answer):
        super().__init__()
        self.body, self.answer = nn.Linear(*features, outputs), answer

    def forward(self, x):
        return self.answer(self.body(x))


def head(answer):
    return partial(Head, answer=answer)


FORMS = {
    "a tuple": (
        lambda y: (y, y),
        r"\(64, 10\) for 64 examples and 10 classes, and returns tuple; return the",
    ),
    "a dictionary": (lambda y: {"logits": y}, "and returns dict; return the outputs alone"),
    "nothing": (lambda y: None, "and returns NoneType"),
    "too few": (lambda y: y[:, :9], r"and returns \(64, 9\)"),
    "too many": (lambda y: y.repeat(1, 100), r"and returns \(64, 1000\)"),
    "another axis": (lambda y: y[:, None], r"and returns \(64, 1, 10\)"),
    "axes in another order": (lambda y: y.T, r"and returns \(10, 64\)"),
    "the mean over the batch": (lambda y: y.mean(0), r"and returns \(10\)"),
    "classes": (lambda y: (y > 0).long(), "and returns int64; return real numbers"),
    "complex": (lambda y: torch.complex(y, y), "and returns complex64; return real numbers"),
    "no gradient": (lambda y: y.detach(), "its outputs must depend on trained parameters, and have no grad"),
    "an error": (lambda y: y @ y, r"cannot pass 64 examples of 64 features in training \(RuntimeError: mat1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_another_form_are_refused(form):
    answer, words = FORMS[form]
    with pytest.raises(UsageError, match=f"^model: .*{words}"):
        parts(head(answer))


@pytest.mark.parametrize("axes", [(1, 1), (2,)])
def test_one_target_has_one_output(axes):
    """(batch, 1, 1) would be compared with every target of the batch."""
    answer = {(1, 1): lambda y: y[:, None], (2,): lambda y: torch.cat([y, y], 1)}[axes]
    with pytest.raises(UsageError, match=r"must return a tensor \(64, 1\) for 64 examples and 1 target, and"):
        parts(head(answer), split(diabetes()))


def test_one_target_may_do_without_an_axis(monkeypatch):
    data = split(diabetes(), batch_size=50)
    flat, whole = (fit(parts(head(answer), data)) for answer in (lambda y: y[:, 0], lambda y: y))
    assert flat.metrics == whole.metrics
    learners = [parts(head(lambda y: y[:, 0]), data).learner for _ in range(2)]
    with pytest.raises(Unfusable, match=r"its outputs are not \(batch, outputs\)"):
        FusedLearner(learners, data.train.x[:20])


def test_the_place_of_an_error_is_said():
    def forgetful(y):
        return y + undefined  # noqa: F821

    with pytest.raises(
        UsageError, match=r"NameError: name 'undefined' is not defined at test_first_passes.py:\d+"
    ):
        parts(head(forgetful))


NORM = partial(mlp, hidden=[8], norm="batch")
SQUEEZED = head(lambda y: y.squeeze())


@pytest.mark.parametrize("model", [NORM, SQUEEZED])
@pytest.mark.parametrize(
    "batch_size, accumulate, fault, way_out",
    [
        (7, 1, "data.batch_size=7: leaves a last batch of 1 example", "data.batch_size=6"),
        (1, 1, "data.batch_size=1: leaves a last batch of 1 example", "data.batch_size=2"),
        (17, 1, "data.batch_size=17: leaves a last batch of 1 example", "data.batch_size=16"),
        (20, 11, "trainer.accumulate=11: leaves a piece of 1 example", "trainer.accumulate=10"),
        (32, 16, "trainer.accumulate=16: leaves a piece of 1 example", "trainer.accumulate=12"),
        (7, 3, "data.batch_size=7: leaves a last batch of 1 example", "data.batch_size=6"),
    ],
)
def test_batches_that_are_too_small_are_named_with_a_way_out_that_works(
    model, batch_size, accumulate, fault, way_out
):
    """120 training examples."""
    with pytest.raises(UsageError, match=f"^{fault}, and the model .*; use .* ?{way_out}$"):
        parts(model, batch_size=batch_size, accumulate=accumulate)
    key, value = way_out.split("=")
    sizes = {"batch_size": batch_size, "accumulate": accumulate} | {key.split(".")[1]: int(value)}
    fit(parts(model, **sizes))


def test_a_batch_of_one_image_has_many_values_of_each_channel():
    data = split(digits(image=True), examples=140, batch_size=83)
    assert len(data.train.y) % 83 == 1
    assert fit(parts(partial(resnet, width=4, depth=8), data)).status == "finished"


def test_evaluation_is_tried_with_its_last_batch():
    class Halved(Head):
        def forward(self, x):
            if not self.training and len(x) % 2:
                raise ValueError("needs pairs")
            return super().forward(x)

    data = split(digits(), examples=205)
    assert len(data.validation.y) == 41
    with pytest.raises(UsageError, match=r"cannot pass 41 examples of 64 features in evaluation .*needs pai"):
        parts(partial(Halved, answer=lambda y: y), data)


class Energy(own_models.Net):
    """Takes a gradient in its forward pass, and expects that gradients are on."""

    def other(self, x):
        x = x.clone().requires_grad_()
        (forces,) = torch.autograd.grad(torch.tanh(self.b(x)).square().sum(), x, create_graph=True)
        return forces.sum(1, keepdim=True)


@pytest.mark.parametrize("model", [Energy, own_models.Forces])
def test_a_model_that_takes_gradients_is_evaluated_as_in_a_plain_loop(model, tmp_path):
    built = parts(model)
    assert built.learner.forward.needs_gradients is (model is Energy)
    fitted = fit(built, folder=tmp_path)  # its graph is drawn, too
    x, y = built.data.validation.x, built.data.validation.y
    loss = nn.functional.cross_entropy(fitted.model(x), y).item()
    assert fitted.final["val"]["loss"] == pytest.approx(loss, rel=1e-5)
    same = fit(parts(own_models.Forces))
    assert fitted.metrics == same.metrics


def test_it_leaves_no_trace(monkeypatch):
    class Counts(own_models.Calls):
        def other(self, x):
            self.a.weight.data.add_(1)
            self.noise = torch.rand(1) + np.random.rand()
            return super().other(x)

    found = []
    for skipped in (False, True):
        with monkeypatch.context() as patched:
            if skipped:
                patched.setattr(parts_module, "try_passes", lambda *given: None)
            model = parts(Counts).model
        assert (model.calls, model.log, hasattr(model, "noise")) == (0, [], False)
        states = torch.get_rng_state().tolist(), pickle.dumps(np.random.get_state())
        found.append((str(model.state_dict()), states))
    assert found[0] == found[1]


class Slots:
    """A counter that no dictionary holds."""

    __slots__ = ("number",)


class CountsAnywhere(own_models.Net):
    """Counts where no dictionary or list has it, and where a function has it."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.slots, self.iterator, times = Slots(), itertools.count(), []
        self.slots.number = 0
        self.head.register_forward_hook(lambda *given: times.append(1))
        self.times = lambda: times

    def other(self, x):
        self.slots.number += 1
        next(self.iterator)
        return super().other(x)


def test_a_copy_is_passed_where_there_can_be_one():
    model = parts(CountsAnywhere).model
    assert (model.slots.number, next(model.iterator), model.times()) == (0, 0, [])


class Shares(own_models.Calls):
    """Cannot be copied, as it shares a queue with threads."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.waiting, self.names = queue.Queue(), globals()

    def other(self, x):
        self.waiting.put(len(x))
        SEEN.append(len(x))
        return super().other(x)


SEEN: list = []


def test_what_is_the_process_s_is_left_alone():
    model = parts(Shares).model
    assert (model.calls, model.log) == (0, [])
    assert model.waiting.qsize() == len(SEEN) > 1  # another thread may have taken it already


class Recomputes(own_models.Net):
    """Computes a part of its pass again when gradients are passed back, in the older of torch's two ways."""

    def other(self, x):
        again = partial(super().other)
        return checkpoint(again, x.clone().requires_grad_(), use_reentrant=True)


@pytest.mark.parametrize("copied", [True, False])
def test_a_model_that_recomputes_its_pass_is_trained_as_one_that_does_not(copied, monkeypatch):
    if not copied:
        monkeypatch.setattr(Recomputes, "__deepcopy__", lambda self, memo: 1 / 0, raising=False)
    one, other = fit(parts(Recomputes)), fit(parts(own_models.Net))
    assert one.metrics == pytest.approx(other.metrics, rel=1e-6)


def test_a_folder_changes_nothing(tmp_path):
    """For it the graph is drawn, in a pass of its own."""

    class Looks(own_models.Calls):
        def other(self, x):
            self.calls += not self.training
            return super().other(x) * (1 + 0.1 * self.calls)

    one, other = fit(parts(Looks)), fit(parts(Looks), folder=tmp_path)
    assert one.model.log == other.model.log and one.metrics == other.metrics


def request(home, *overrides):
    small = ["data=wine", "trainer.device=cpu", "model.hidden=[8]", "progress=false", "trainer.max_epochs=3"]
    return cli.composed([*small, f"output_dir={home}", *overrides], CONF)


def test_nothing_is_written_for_what_cannot_be_passed(tmp_path):
    asked = request(tmp_path / "out", "model.norm=batch", "data.batch_size=53", "early_stop=none")
    with pytest.raises(UsageError, match=r"^data\.batch_size=53: leaves a last batch of 1 example"):
        run.train(asked)
    assert not (tmp_path / "out").exists()


ENDS = {
    "finished": ["early_stop=none"],
    "stopped early": [
        "early_stop=patience",
        "early_stop.patience=1",
        "optimizer.lr=0",
        "trainer.max_epochs=9",
    ],
    "diverged": ["early_stop=none", "optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant"],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("work", ["predict", "load_best", "checkpoints"])
def test_a_run_that_dies_in_its_last_work_has_not_ended(tmp_path, monkeypatch, end, work):
    asked = request(tmp_path, *ENDS[end])

    def fail(*arguments):
        raise RuntimeError("no room")

    with monkeypatch.context() as patched:
        if work == "checkpoints":
            from sweepwise.checkpoint import Checkpoints

            patched.setattr(Checkpoints, "finish", fail)
        else:
            patched.setattr(ModuleLearner, work, fail)
        with pytest.raises(RuntimeError, match="no room"):
            run.train(asked)
    (folder,) = tmp_path.glob("main/*-*")
    known = record.read(folder)
    assert (known["status"], known["reason"]) == ("failed", "RuntimeError: no room")
    assert run.train(asked).run.status == end
    assert record.read(folder)["status"] == end and "loss" in record.read(folder)["best"]["measured"]["test"]


class Sparse(nn.Module):
    def __init__(self, features, outputs, make):
        super().__init__()
        self.places, self.head = make(), nn.Linear(8, outputs)

    def forward(self, x):
        found = self.places(x.long().clamp(0, 19))
        return self.head(found.mean(1) if found.ndim > 2 else found)


class ByFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(20, 8))

    def forward(self, x):
        return nn.functional.embedding(x, self.weight, sparse=True)


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError("left for later")


class Keeps(nn.Linear):
    def __init__(self, features, outputs):
        super().__init__(*features, outputs)

    def get_extra_state(self):
        raise OSError("no such file")


def two_types(features, outputs):
    return nn.Sequential(nn.Linear(*features, 8).double(), nn.Linear(8, outputs))


UNSUITED = {
    "embedding": (partial(Sparse, make=lambda: nn.Embedding(20, 8, sparse=True)), "the gradient of places"),
    "bag": (
        partial(Sparse, make=lambda: nn.EmbeddingBag(20, 8, sparse=True)),
        "the gradient of places.weight",
    ),
    "function": (partial(Sparse, make=ByFunction), r"gradient of places.weight is sparse.*use sparse=False"),
    "types": (two_types, r"of one dtype and on one device, and 0.bias is float64 on cpu, 1.bias is float32"),
    "complex": (lambda f, o: nn.Linear(*f, o, dtype=torch.cfloat), r"real numbers, and bias is complex64"),
    "double": (
        lambda f, o: nn.Linear(*f, o).double(),
        r"are float64 and the examples float32, so use model\.to",
    ),
    "script": (lambda f, o: torch.jit.script(nn.Linear(*f, o)), "it is made by torch.jit, whose parameters"),
    "in part": (
        lambda f, o: nn.Sequential(torch.jit.script(nn.Linear(*f, 8)), nn.Linear(8, o)),
        "its layer 0 is made by torch.jit",
    ),
    "state": (
        Keeps,
        r"its state_dict cannot be taken, as a checkpoint does, and raises OSError: no such file",
    ),
    "backward": (
        head(NoGradient.apply),
        r"cannot pass gradients back \(NotImplementedError: left for later at",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", UNSUITED)
def test_what_cannot_be_trained_is_said_before_anything_is_written(kind, tmp_path):
    model, words = UNSUITED[kind]
    with pytest.raises(UsageError, match=f"^model: .*{words}") as raised:
        fit(parts(model), tmp_path)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


LAZY = {
    "linear": lambda f, o: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(o)),
    "norm": lambda f, o: nn.Sequential(nn.Linear(*f, 8), nn.LazyBatchNorm1d(), nn.LazyLinear(o)),
    "kernel": lambda f, o: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(o)
    ),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_get_their_parameters_before_the_initialisation(kind):
    """As layers of known sizes have them, with the same seed and scheme."""
    scheme = partial(initialize_, scheme=nn.init.kaiming_normal_)
    lazy = parts(LAZY[kind], init=scheme).model
    known = {
        "linear": lambda f, o: nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, o)),
        "norm": lambda f, o: nn.Sequential(nn.Linear(*f, 8), nn.BatchNorm1d(8), nn.Linear(8, o)),
        "kernel": lambda f, o: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, o)
        ),
    }[kind]
    expected = parts(known, init=scheme).model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in lazy.state_dict().items())


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_that_the_first_pass_does_not_reach_are_refused():
    class Hidden(Head):
        def __init__(self, features, outputs):
            super().__init__(features, outputs, lambda y: y)
            self.other = nn.LazyLinear(3)

    with pytest.raises(
        UsageError, match=r"other.weight, other.bias have no values after a pass in evaluation"
    ):
        parts(Hidden)
    with pytest.raises(UsageError, match=r"from a first pass, which raises RuntimeError: mat1 and mat2"):
        parts(lambda f, o: nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(o)))


def test_what_one_run_of_a_group_has_passed_is_not_tried_again(monkeypatch):
    requests = [composed(*TINY, f"seed.value={seed}") for seed in range(2)]
    first = from_config.build(requests[0])
    tried = []
    monkeypatch.setattr(first_passes._FirstPasses, "train", lambda self, size: tried.append(size))
    monkeypatch.setattr(first_passes._FirstPasses, "evaluate", lambda self, size: tried.append(size))
    again = from_config.build(requests[1], shared=first.data, tried=first_passes.Tried.of(first.learner))
    assert not tried and again.steps == first.steps
    from_config.build(requests[1])
    assert tried


@pytest.mark.parametrize("override", ["model.hidden=[5]", "model.activation=tanh", "model.dropout=0.5"])
def test_other_layers_are_tried(override, monkeypatch):
    first, tried = from_config.build(composed(*TINY)), []
    monkeypatch.setattr(first_passes._FirstPasses, "train", lambda self, size: tried.append(size))
    from_config.build(
        composed(*TINY, override), shared=first.data, tried=first_passes.Tried.of(first.learner)
    )
    assert tried


def test_a_model_with_code_of_its_own_is_tried_each_time(monkeypatch):
    data = split(digits(), batch_size=64, examples=200)
    first, tried = parts(head(lambda y: y), data), []
    monkeypatch.setattr(first_passes._FirstPasses, "train", lambda self, size: tried.append(size))
    monkeypatch.setattr(first_passes._FirstPasses, "evaluate", lambda self, size: None)
    first_passes.try_passes(first.learner, data, 1, 1, first_passes.Tried.of(first.learner))
    assert tried
