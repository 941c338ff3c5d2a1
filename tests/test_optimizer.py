from functools import partial

import pytest
import torch
from small import CONF
from torch import Tensor, nn, optim

from sweepwise import run
from sweepwise.cli import composed
from sweepwise.errors import UsageError
from sweepwise.optimizer import FlatOptimizer
from sweepwise.optimizer.muon import Muon

# Sizes that leave tails beside the vectors of any processor; weights first, then the rest.
WEIGHTS = [torch.Size(shape) for shape in ((37, 5), (3, 11), (1, 1))]
REST = [torch.Size(shape) for shape in ((13,), (5,), ())]
STEPS = 20

ADAMS = [
    partial(optim.Adam),
    partial(optim.Adam, betas=(0.5, 0.9), eps=1e-3),
    partial(optim.Adam, amsgrad=True),
    partial(optim.Adam, weight_decay=0.3),
    partial(optim.Adam, maximize=True),
    partial(optim.AdamW, weight_decay=0.0),
    partial(optim.AdamW, weight_decay=0.3),
    partial(optim.AdamW, weight_decay=0.3, amsgrad=True),
]
SGDS = [
    partial(optim.SGD),
    partial(optim.SGD, momentum=0.9),
    partial(optim.SGD, momentum=0.9, dampening=0.5),
    partial(optim.SGD, momentum=0.9, nesterov=True),
    partial(optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.3),
]
# Of these torch has no fused kernel.
OTHERS = [
    partial(optim.RMSprop),
    partial(optim.RMSprop, alpha=0.5, momentum=0.9, centered=True, weight_decay=0.3),
    partial(optim.NAdam, weight_decay=0.3),
    partial(optim.RAdam),
    partial(optim.Adamax),
    partial(optim.Adadelta),
]


def name(build: partial) -> str:
    return (
        "-".join([build.func.__name__, *map(str, build.keywords)])
        if isinstance(build, partial)
        else str(build)
    )


class Problem:
    """A row of parameters that starts anywhere, and gradients that are as good as any."""

    def __init__(self, dtype=torch.float32, weights=WEIGHTS, rest=REST, seed=0, steps=STEPS) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.shapes = weights, weights + rest
        self.sizes = [shape.numel() for shape in self.shapes]
        total = sum(self.sizes)
        self.start = torch.randn(total, dtype=dtype, generator=generator)
        self.gradients = torch.randn(steps, total, dtype=dtype, generator=generator)
        self.rates = [0.01 * (1 + step % 3) for step in range(steps)]

    def parts(self, row: Tensor) -> list[Tensor]:
        return [part.view(shape) for part, shape in zip(row.split(self.sizes), self.shapes, strict=True)]

    def flat(self, build: partial, decay="weights") -> tuple[FlatOptimizer, Tensor, Tensor]:
        values, gradient = self.start.clone(), torch.zeros_like(self.start)
        count = sum(self.sizes[: len(self.weights)])
        options = {"weights": count, "shapes": self.shapes, "decay": decay}
        return FlatOptimizer(build, values=values, gradient=gradient, **options), values, gradient

    def ours(self, build: partial, decay="weights", by_parts=lambda step: False) -> Tensor:
        optimizer, values, gradient = self.flat(build, decay)
        for step, (rate, row) in enumerate(zip(self.rates, self.gradients, strict=True)):
            gradient.copy_(row)
            if by_parts(step) and optimizer.takes_parts:
                gradient.fill_(torch.nan)  # it must not be read
                optimizer.step_parts_(rate, self.parts(row))
            else:
                optimizer.step_(rate)
        return values

    def torchs(self, build: partial, decay="weights") -> Tensor:
        """torch's own class on the separate tensors."""
        tensors = [nn.Parameter(part.clone()) for part in self.parts(self.start)]
        groups = [{"params": tensors[: len(self.weights)]}, {"params": tensors[len(self.weights) :]}]
        if decay == "weights":
            groups[1]["weight_decay"] = 0.0
        optimizer = build(groups)
        for rate, row in zip(self.rates, self.gradients, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            for tensor, gradient in zip(tensors, self.parts(row), strict=True):
                tensor.grad = gradient.clone()
            optimizer.step()
        return torch.cat([tensor.detach().flatten() for tensor in tensors])


@pytest.mark.parametrize("build", ADAMS, ids=name)
@pytest.mark.parametrize("decay", ["weights", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_parts_adam_is_torchs_fused_one_to_the_bit(build, decay, dtype):
    problem = Problem(dtype)
    expected = problem.torchs(partial(build, fused=True), decay)
    assert torch.equal(problem.ours(build, decay, by_parts=lambda step: True), expected)


@pytest.mark.parametrize("build", OTHERS, ids=name)
@pytest.mark.parametrize("decay", ["weights", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_fused_kernel_the_row_is_torchs_own_to_the_bit(build, decay, dtype):
    problem = Problem(dtype)
    assert torch.equal(problem.ours(build, decay), problem.torchs(build, decay))


@pytest.mark.parametrize("build", [*ADAMS, *SGDS], ids=name)
@pytest.mark.parametrize("decay", ["weights", "all"])
@pytest.mark.parametrize("fused", [None, True])
def test_a_row_is_torchs_own_within_rounding(build, decay, fused):
    # A fused kernel rounds its vectors and their tails differently, and a row is cut into other vectors.
    problem = Problem(torch.float64)
    expected = problem.torchs(partial(build, fused=fused), decay)
    torch.testing.assert_close(problem.ours(build, decay), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("build", ADAMS, ids=name)
@pytest.mark.parametrize("by_parts", [lambda step: step % 2, lambda step: step > 9, lambda step: step < 9])
def test_rows_and_parts_share_one_state(build, by_parts):
    problem = Problem(torch.float64)
    expected = problem.torchs(build)
    torch.testing.assert_close(problem.ours(build, by_parts=by_parts), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("build", [*ADAMS, *SGDS], ids=name)
def test_single_precision_is_within_rounding_too(build):
    problem = Problem()
    expected = problem.torchs(build)
    for by_parts in (False, True):
        ours = problem.ours(build, by_parts=lambda step, by_parts=by_parts: by_parts)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "build", [partial(optim.Adam, weight_decay=0.3), partial(optim.SGD, weight_decay=0.3)]
)
def test_decay_of_weights_only_and_of_all_differ_where_they_should(build):
    problem = Problem()
    count = sum(problem.sizes[: len(WEIGHTS)])
    weights, everything, nothing = (
        problem.ours(build, "weights"),
        problem.ours(build, "all"),
        problem.ours(partial(build, weight_decay=0.0)),
    )
    torch.testing.assert_close(weights[:count], everything[:count])
    torch.testing.assert_close(weights[count:], nothing[count:])
    assert not torch.isclose(weights[:count], nothing[:count], rtol=1e-4).all()
    assert not torch.isclose(weights[count:], everything[count:], rtol=1e-4).all()


def test_decay_acts_on_the_weights_unless_told_otherwise():
    problem = Problem()
    values, gradient = problem.start.clone(), torch.zeros_like(problem.start)
    count = sum(problem.sizes[: len(WEIGHTS)])
    build = partial(optim.SGD, weight_decay=0.5)
    FlatOptimizer(build, values=values, gradient=gradient, weights=count, shapes=problem.shapes).step_(0.25)
    torch.testing.assert_close(values[:count], problem.start[:count] * (1 - 0.25 * 0.5))
    assert torch.equal(values[count:], problem.start[count:])


def test_the_rate_is_the_steps_own():
    problem = Problem()
    optimizer, values, gradient = problem.flat(partial(optim.SGD, lr=123.0, weight_decay=0.0))
    gradient.fill_(1)
    for rate in (0.5, 0.0, 0.25):
        optimizer.step_(rate)
    torch.testing.assert_close(values, problem.start - 0.75)


def test_parts_are_taken_from_the_second_step_of_adam_on():
    problem = Problem()
    for build in (*ADAMS, *SGDS, *OTHERS, partial(optim.Adam, fused=False)):
        optimizer, _, _ = problem.flat(build)
        assert not optimizer.takes_parts
        optimizer.step_(0.01)
        assert optimizer.takes_parts == (build in ADAMS), name(build)


def test_without_the_fused_kernel_adam_is_torchs_default_to_the_bit():
    problem = Problem()
    for build in ADAMS:
        unfused = partial(build, fused=False)
        assert torch.equal(problem.ours(unfused, by_parts=lambda step: True), problem.torchs(unfused))


def test_it_is_an_optimizer_of_the_class_asked_for():
    problem = Problem()
    for build in (ADAMS[0], SGDS[1], OTHERS[0]):
        optimizer, values, _ = problem.flat(build)
        kind = type(optimizer.optimizer)
        assert issubclass(kind, build.func) and kind.__name__ == build.func.__name__
        (group,) = optimizer.optimizer.param_groups
        assert group["params"][0].data_ptr() == values.data_ptr()


def test_what_torch_refuses_is_refused():
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        Problem().flat(partial(optim.SGD, nesterov=True))


@pytest.mark.parametrize(
    "build", [partial(kind, weight_decay=0.3) for kind in (optim.Adam, optim.AdamW)], ids=name
)
@pytest.mark.parametrize(("weights", "rest"), [(WEIGHTS, []), ([], REST)], ids=["no biases", "no weights"])
def test_a_model_without_biases_or_without_weights(build, weights, rest):
    problem = Problem(torch.float64, weights, rest)
    ours = problem.ours(build, by_parts=lambda step: True)
    torch.testing.assert_close(ours, problem.torchs(build), rtol=1e-12, atol=1e-14)


# --- groups and decay


def test_adam_with_its_option_of_decoupled_decay():
    problem = Problem(torch.float64)
    build = partial(optim.Adam, weight_decay=0.3, decoupled_weight_decay=True)
    ours = problem.ours(build, by_parts=lambda step: True)
    torch.testing.assert_close(ours, problem.torchs(build), rtol=1e-12, atol=1e-14)


def test_the_decay_that_a_class_has_by_default_acts_on_the_weights_only():
    problem = Problem(torch.float64)
    count = sum(problem.sizes[: len(WEIGHTS)])
    ours = problem.ours(partial(optim.AdamW))
    given = problem.ours(
        partial(optim.AdamW, weight_decay=optim.AdamW([torch.zeros(1)]).defaults["weight_decay"])
    )
    torch.testing.assert_close(ours[:count], given[:count], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours[count:], given[count:], rtol=1e-12, atol=1e-14)


# --- every class of torch


EVERY = [
    *[partial(kind) for kind in (optim.Adam, optim.AdamW, optim.SGD, optim.RMSprop, optim.Rprop)],
    *[partial(kind) for kind in (optim.Adadelta, optim.Adafactor, optim.Adagrad, optim.Adamax, optim.ASGD)],
    *[partial(kind) for kind in (optim.NAdam, optim.RAdam)],
    partial(optim.Adagrad, lr_decay=0.1, weight_decay=0.3, initial_accumulator_value=0.5),
    partial(optim.NAdam, weight_decay=0.3, decoupled_weight_decay=True),
    partial(optim.RAdam, weight_decay=0.3, betas=(0.8, 0.9)),
    partial(optim.Adafactor, weight_decay=0.3),
    partial(optim.ASGD, weight_decay=0.3, t0=5),
    partial(optim.Adamax, weight_decay=0.3),
    partial(optim.Adadelta, weight_decay=0.3, rho=0.5),
]


def test_no_class_of_torch_is_forgotten():
    kinds = {
        getattr(optim, kind)
        for kind in dir(optim)
        if isinstance(getattr(optim, kind), type) and kind != "Optimizer"
    }
    refused = {optim.LBFGS, optim.SparseAdam, optim.Muon}
    assert kinds == {build.func for build in EVERY} | refused


@pytest.mark.parametrize("build", EVERY, ids=name)
@pytest.mark.parametrize("decay", ["weights", "all"])
def test_fifty_steps_are_those_of_torch_on_the_separate_tensors(build, decay):
    problem = Problem(torch.float64, steps=50)
    ours, expected = problem.ours(build, decay), problem.torchs(build, decay)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-13)
    assert not torch.isclose(ours, problem.start).all()


@pytest.mark.parametrize(
    "build",
    [partial(kind, weight_decay=0.3) for kind in (optim.Adagrad, optim.NAdam, optim.RAdam, optim.Adafactor)],
    ids=name,
)
def test_without_a_gradient_decay_moves_the_weights_and_spares_the_rest(build):
    problem = Problem(torch.float64, steps=50)
    count = sum(problem.sizes[: len(WEIGHTS)])
    problem.gradients.zero_()
    for decay, spared in (("weights", True), ("all", False)):
        values = problem.ours(build, decay)
        assert not torch.isclose(values[:count], problem.start[:count], rtol=1e-4).any()
        assert torch.equal(values[count:], problem.start[count:]) == spared


@pytest.mark.parametrize("kind", [optim.Adagrad, optim.NAdam, optim.RAdam, partial(Muon, first=0)])
def test_twice_the_rate_is_twice_the_way(kind):
    problem = Problem(torch.float64)
    ways = []
    for rate in (0.0, 0.01, 0.02):
        optimizer, values, gradient = problem.flat(partial(kind, lr=123.0, weight_decay=0.0))
        gradient.copy_(problem.gradients[0])
        optimizer.step_(rate)
        ways.append(values - problem.start)
    assert not ways[0].any() and ways[1].all()
    torch.testing.assert_close(ways[2], 2 * ways[1], rtol=1e-9, atol=1e-13)


class Foreign(optim.Optimizer):
    """Moves each tensor by its rate along its gradient over the norm of that tensor's gradient."""

    def __init__(self, params, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for tensor in group["params"]:
                tensor.sub_(group["lr"] * tensor.grad / tensor.grad.norm())


def test_a_class_of_anybodys_own_sees_the_tensors():
    problem = Problem(torch.float64)
    optimizer, values, gradient = problem.flat(partial(Foreign))
    gradient.copy_(problem.gradients[0])
    optimizer.step_(0.25)
    seen = [len(group["params"]) for group in optimizer.optimizer.param_groups]
    assert seen == [len(WEIGHTS), len(REST)]
    for way in problem.parts(values - problem.start):
        assert way.norm().item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (optim.LBFGS, r"LBFGS must not need a closure.*; use optimizer=adam"),
        (optim.SparseAdam, r"SparseAdam must not need sparse gradients.*; use optimizer=adam"),
        (optim.Muon, r"matrices only; use optimizer=muon"),
    ],
)
def test_what_cannot_step_here_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        Problem().flat(partial(kind))


@pytest.mark.parametrize("kind", sorted({build.func.__name__ for build in EVERY}))
def test_every_class_is_chosen_by_its_name(kind):
    target = f"torch.optim.{kind}"
    overrides = ["data=wine", "optimizer=other", f"optimizer._target_={target}", "optimizer.lr=0.01"]
    learner = run.build(composed([*overrides, "trainer.device=cpu"], CONF)).learner
    assert type(learner.optimizer.optimizer).__name__ == kind


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=other", "optimizer.lr=0.1"], "optimizer._target_"),
        (["optimizer=other", "optimizer._target_=torch.optim.Adamax"], "optimizer.lr"),
        (
            ["optimizer=other", "optimizer._target_=torch.optim.LBFGS", "optimizer.lr=1"],
            "optimizer: LBFGS must not need a closure",
        ),
        (["optimizer=nadam", "optimizer.momentum_decay=-1"], "optimizer: Invalid momentum_decay value: -1"),
        (["optimizer=muon", "model=linear"], "optimizer=muon: must have weights between"),
    ],
)
def test_a_bad_choice_is_a_fault_of_the_optimizer(overrides, message):
    with pytest.raises(UsageError) as refused:
        run.build(composed(["data=wine", *overrides], CONF))
    assert refused.value.faults[0].startswith(message)


# --- Muon

# An input layer, a matrix either way up, a kernel, an output layer.
LAYERS = [torch.Size(shape) for shape in ((12, 5), (12, 12), (24, 12), (8, 24), (6, 8, 3), (3, 6))]


def muon_by_torch(problem: Problem, first=1, last=1, decay=0.01, spare=True, scale=1.0, **options) -> Tensor:
    """torch's own two optimizers side by side; a kernel is given to Muon as a matrix."""
    tensors = [part.clone() for part in problem.parts(problem.start)]
    count = len(problem.weights)
    hidden = [tensor.flatten(1) for tensor in tensors[first : count - last]]
    outer = [*tensors[:first], *tensors[count - last : count]]
    options = {"adjust_lr_fn": "match_rms_adamw", **options}
    muon = optim.Muon(hidden, weight_decay=decay, **options)
    groups = [{"params": outer}, {"params": tensors[count:], "weight_decay": 0.0 if spare else decay}]
    adamw = optim.AdamW(groups, weight_decay=decay)
    for rate, row in zip(problem.rates, problem.gradients, strict=True):
        for group in muon.param_groups:
            group["lr"] = rate
        for group in adamw.param_groups:
            group["lr"] = rate * scale
        gradients = problem.parts(row)
        for tensor, gradient in zip(hidden, gradients[first : count - last], strict=True):
            tensor.grad = gradient.flatten(1)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient
        muon.step()
        adamw.step()
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, {}),
        ({"first": 2, "last": 3}, {"first": 2, "last": 3}),
        ({"first": 0, "last": 0}, {"first": 0, "last": 0}),
        ({"weight_decay": 0.0, "nesterov": False}, {"decay": 0.0, "nesterov": False}),
        (
            {"adjust_lr_fn": "original", "momentum": 0.5, "ns_steps": 3, "adamw_scale": 0.015},
            {"adjust_lr_fn": "original", "momentum": 0.5, "ns_steps": 3, "scale": 0.015},
        ),
    ],
)
@pytest.mark.parametrize("decay", ["weights", "all"])
def test_muon_is_torchs_on_hidden_weights_and_adamw_elsewhere(options, same, decay, monkeypatch):
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)  # torch rounds so before its iterations
    problem = Problem(torch.float64, LAYERS, steps=50)
    expected = muon_by_torch(problem, spare=decay == "weights", **same)
    torch.testing.assert_close(
        problem.ours(partial(Muon, **options), decay), expected, rtol=1e-12, atol=1e-14
    )


def test_muon_is_torchs_within_the_rounding_of_bfloat16():
    problem = Problem(torch.float64, LAYERS, steps=50)
    ours, expected = problem.ours(partial(Muon)), muon_by_torch(problem)
    assert (ours - expected).norm() < 0.02 * (expected - problem.start).norm()
    assert not torch.equal(ours, expected)


@pytest.mark.parametrize("shape", [(12, 12), (24, 12), (8, 24), (6, 8, 3)])
def test_muon_moves_every_direction_by_about_the_same_length(shape):
    # Five Newton-Schulz steps leave singular values near 1, from 0.7 to 1.2 (Jordan 2024).
    problem = Problem(torch.float64, [torch.Size(shape)])
    build = partial(Muon, first=0, last=0, weight_decay=0.0)
    optimizer, values, gradient = problem.flat(build)
    gradient.copy_(problem.gradients[0])
    optimizer.step_(0.1)
    way = problem.parts(problem.start - values)[0].flatten(1)
    left, _, right = torch.linalg.svd(problem.parts(problem.gradients[0])[0].flatten(1), full_matrices=False)
    lengths = torch.linalg.svdvals(way) / (0.1 * 0.2 * max(way.shape) ** 0.5)
    assert lengths.min() > 0.3 and lengths.max() < 1.3 and 0.7 < lengths.mean() < 1.1
    assert torch.nn.functional.cosine_similarity(way.flatten(), (left @ right).flatten(), dim=0) > 0.95


def test_muon_shrinks_weights_by_the_decay_alone_without_a_gradient():
    problem = Problem(torch.float64, LAYERS, steps=50)
    problem.gradients.zero_()
    values = problem.ours(partial(Muon, weight_decay=0.5))
    count = sum(problem.sizes[: len(LAYERS)])
    shrunk = torch.tensor([1 - rate * 0.5 for rate in problem.rates], dtype=torch.float64).prod()
    torch.testing.assert_close(values[:count], problem.start[:count] * shrunk)
    assert torch.equal(values[count:], problem.start[count:])


def test_muon_without_biases(monkeypatch):
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    problem = Problem(torch.float64, LAYERS, rest=[])
    torch.testing.assert_close(problem.ours(partial(Muon)), muon_by_torch(problem), rtol=1e-12, atol=1e-14)


def test_muon_goes_on_from_its_state():
    problem = Problem(torch.float64, LAYERS)
    whole = problem.ours(partial(Muon))
    first, values, gradient = problem.flat(partial(Muon))
    for row, rate in zip(problem.gradients[:7], problem.rates, strict=False):
        gradient.copy_(row)
        first.step_(rate)
    second, resumed, gradient = problem.flat(partial(Muon))
    resumed.copy_(values)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for row, rate in zip(problem.gradients[7:], problem.rates[7:], strict=True):
        gradient.copy_(row)
        second.step_(rate)
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (2, 0), (0, 2), (5, 0), (0, 5)])
def test_muon_without_hidden_weights_is_refused(first, last):
    problem = Problem(weights=LAYERS[:2])
    with pytest.raises(ValueError, match=r"optimizer=muon: must have weights between .*optimizer=adamw"):
        problem.flat(partial(Muon, first=first, last=last))


@pytest.mark.parametrize("options", [{"foreach": True}, {"differentiable": False}, {"fused": False}])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_ways_to_compute_that_torch_takes_one_of_are_taken(kind, options):
    """Adam's first step is the rate against the gradient's sign, SGD's the rate times the gradient."""
    values, gradient = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -0.5])
    optimizer = FlatOptimizer(
        partial(kind, lr=0.1, weight_decay=0.0, **options),
        values=values,
        gradient=gradient,
        weights=2,
        shapes=[torch.Size([2])],
    )
    optimizer.step_(0.1)
    moved = 0.05 if kind is torch.optim.SGD else 0.1
    torch.testing.assert_close(values, torch.tensor([1 - moved, 2 + moved]))


def test_a_function_is_no_optimizer():
    with pytest.raises(
        ValueError, match=r"^optimizer: must be a class with its options bound.* not the function <lambda>$"
    ):
        FlatOptimizer(
            partial(lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
            values=torch.zeros(2),
            gradient=torch.zeros(2),
            weights=2,
            shapes=[torch.Size([2])],
        )
