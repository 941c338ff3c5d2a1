import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn, optim

from sweepwise.optimizer import FlatOptimizer

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

    def __init__(self, dtype=torch.float32, weights=WEIGHTS, rest=REST, seed=0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.shapes = weights, weights + rest
        self.sizes = [shape.numel() for shape in self.shapes]
        total = sum(self.sizes)
        self.start = torch.randn(total, dtype=dtype, generator=generator)
        self.gradients = torch.randn(STEPS, total, dtype=dtype, generator=generator)
        self.rates = [0.01 * (1 + step % 3) for step in range(STEPS)]

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


def test_building_and_stepping_imports_no_dynamo():
    code = """
import sys
from functools import partial
import torch
from sweepwise.optimizer import FlatOptimizer
shapes = [torch.Size((2, 3)), torch.Size((2,))]
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop):
    row = torch.ones(8)
    build = partial(kind, lr=0.1, weight_decay=0.1)
    optimizer = FlatOptimizer(build, values=row, gradient=torch.ones(8), weights=6, shapes=shapes)
    optimizer.step_(0.1)
    optimizer.step_(0.1)
    if optimizer.takes_parts:
        optimizer.step_parts_(0.1, [torch.ones(shape) for shape in shapes])
sys.exit('torch._dynamo' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


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
