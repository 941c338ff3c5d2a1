"""Regularizers against closed forms, scikit-learn's solutions and torch's own AdamW."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import Lasso, Ridge
from torch import nn

from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.cutout import Cutout
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.elastic_net import ElasticNet
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.label_smoothing import LabelSmoothing
from sweepwise.regularizer.mixup import greater_share
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.task import Classification, Regression

SGD = partial(torch.optim.SGD, lr=1.0)
EXAMPLES, FEATURES = 80, 12


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray]:
    """A sparse truth, with an intercept that no penalty should shrink."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, FEATURES))
    truth = np.array([3.0, -2.0, 1.0, 0.5, *[0.0] * 8])
    return x, x @ truth + 5 + rng.normal(size=EXAMPLES)


def fitted(problem, optimizer, *regularizers, steps: int = 2500, rate: float | None = None) -> np.ndarray:
    """Weights and intercept of a linear model after whole-batch steps of 1 / L on the mean squared error."""
    x, y = problem
    model = nn.Linear(FEATURES, 1).double()
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.zero_()
    build = partial(FlatOptimizer, optimizer)
    learner = ModuleLearner(model, Regression(1.0), build, regularizers, 0)
    augmented = np.column_stack([x, np.ones(EXAMPLES)])
    curvature = 2 * np.linalg.eigvalsh(augmented.T @ augmented / EXAMPLES)[-1] + 1
    rates = np.array([rate or 1 / curvature])
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    for step in range(steps):
        learner.step(inputs, targets, rates, step, Watch.NOTHING)
    return np.append(model.weight.detach().numpy(), model.bias.item())


def solution(estimator, problem) -> np.ndarray:
    estimator.fit(*problem)
    return np.append(estimator.coef_, estimator.intercept_)


# --- penalised least squares: where the training ends. The loss is 1/n |y - X w|^2, scikit-learn's has 1/2n


@pytest.mark.parametrize("coefficient", [0.1, 1.0, 4.0])
def test_lasso(problem, coefficient):
    ours = fitted(problem, SGD, L1(coefficient=coefficient, proximal=True))
    theirs = solution(Lasso(alpha=coefficient / 2, tol=1e-12, max_iter=100000), problem)
    assert ((ours == 0) == (theirs == 0)).all() and (theirs == 0).sum() >= 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("l1_ratio", [0.2, 0.9])
def test_elastic_net(problem, l1_ratio):
    ours = fitted(problem, SGD, ElasticNet(alpha=1.0, l1_ratio=l1_ratio, proximal=True))
    theirs = solution(SklearnElasticNet(alpha=0.5, l1_ratio=l1_ratio, tol=1e-12, max_iter=100000), problem)
    assert ((ours == 0) == (theirs == 0)).all() and (theirs == 0).sum() >= 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_subgradients_come_near_zero_but_do_not_stay_there(problem):
    ours = fitted(problem, SGD, L1(coefficient=1.0), steps=4000, rate=1e-3)
    theirs = solution(Lasso(alpha=0.5, tol=1e-12), problem)
    np.testing.assert_allclose(ours, theirs, atol=1e-2)  # they swing by about rate * coefficient
    assert (theirs == 0).any() and not (ours == 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("coefficient", [0.01, 0.5])
def test_ridge(problem, coefficient):
    """2/n X'(X w - y) + 2 c w = 0 with centred X and y: w = (X'X + n c I)^-1 X'y."""
    x, y = problem
    centred, wanted = x - x.mean(0), y - y.mean()
    normal = centred.T @ centred + EXAMPLES * coefficient * np.eye(FEATURES)
    weights = np.linalg.solve(normal, centred.T @ wanted)
    closed = np.append(weights, y.mean() - x.mean(0) @ weights)
    np.testing.assert_allclose(closed, solution(Ridge(alpha=EXAMPLES * coefficient), problem), rtol=1e-9)

    for optimizer, regularizers in [
        (SGD, [L2(coefficient=coefficient)]),
        (partial(SGD, weight_decay=2 * coefficient), []),
        (SGD, [ElasticNet(alpha=2 * coefficient, l1_ratio=0.0)]),
    ]:
        np.testing.assert_allclose(fitted(problem, optimizer, *regularizers), closed, rtol=1e-8)


# --- decay without a gradient of the loss: the inputs are zero, so only the bias has one


def decayed(optimizer, *regularizers, rates, start: float = 0.5) -> tuple[np.ndarray, float]:
    """The weights after steps of these rates, and the bias."""
    model = nn.Linear(3, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[start, -start, 2 * start]]))
        model.bias.zero_()
    learner = ModuleLearner(model, Regression(1.0), partial(FlatOptimizer, optimizer), regularizers, 0)
    x, y = torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for step, rate in enumerate(rates):
        learner.step(x, y, np.array([rate]), step, Watch.NOTHING)
    return model.weight.detach().numpy()[0] / start / np.array([1, -1, 2]), model.bias.item()


@pytest.mark.parametrize("weight_decay", [1e-4, 1e-1])
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        partial(SGD, momentum=0.9),
        partial(torch.optim.Adam, lr=1.0),
        partial(torch.optim.RMSprop, lr=1.0),
        None,
    ],
    ids=["sgd", "momentum", "adam", "rmsprop", "adamw"],
)
def test_decoupled_decay_is_geometric_whatever_the_optimizer(optimizer, weight_decay):
    """w = w0 (1 - lr wd)^t; with a schedule, the product of 1 - lr_s wd."""
    regularizers = [WeightDecay(coefficient=weight_decay)] if optimizer else []
    optimizer = optimizer or partial(torch.optim.AdamW, lr=1.0, weight_decay=weight_decay)
    share, bias = decayed(optimizer, *regularizers, rates=[0.01] * 100)
    np.testing.assert_allclose(share, (1 - 0.01 * weight_decay) ** 100, rtol=1e-12)
    rates = 0.1 * 0.9 ** np.arange(50)
    share, _ = decayed(optimizer, *regularizers, rates=rates)
    np.testing.assert_allclose(share, np.prod(1 - rates * weight_decay), rtol=1e-12)
    undecayed = decayed(partial(optimizer, weight_decay=0.0), rates=[0.01] * 100)[1]
    assert bias == pytest.approx(undecayed, rel=1e-12) and bias > 0.1


def test_decay_in_the_gradient_under_adam_is_not_decoupled():
    """Adam divides the decay by its own size, so a thousand times the coefficient leaves the same weights."""
    rates = [1e-3] * 100
    adam = partial(torch.optim.Adam, lr=1.0)
    weak, strong = (decayed(partial(adam, weight_decay=wd), rates=rates)[0] for wd in (1e-4, 1e-1))
    np.testing.assert_allclose(weak, strong, rtol=1e-3)
    assert weak[0] == pytest.approx((0.5 - 100 * 1e-3) / 0.5, rel=2e-2)  # about one rate a step
    as_penalty = decayed(adam, L2(coefficient=0.05), rates=rates)[0]
    np.testing.assert_allclose(as_penalty, strong, rtol=1e-9)
    decoupled = [decayed(adam, WeightDecay(coefficient=wd), rates=rates)[0] for wd in (1e-4, 1e-1)]
    assert (1 - decoupled[1][0]) / (1 - decoupled[0][0]) == pytest.approx(1000, rel=0.01)


def test_decoupled_decay_over_adam_is_torchs_own_adamw():
    def make() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1)).double()

    generator = torch.Generator().manual_seed(1)
    batches = torch.randn(60, 16, 5, dtype=torch.float64, generator=generator)
    ours, theirs = make(), make()
    adam = partial(torch.optim.Adam, lr=1.0)
    decay = [WeightDecay(coefficient=0.5)]
    learner = ModuleLearner(ours, Regression(1.0), partial(FlatOptimizer, adam), decay, 0)
    weights = [theirs[0].weight, theirs[3].weight]
    rest = [theirs[0].bias, theirs[1].weight, theirs[1].bias, theirs[3].bias]
    groups = [{"params": weights, "weight_decay": 0.5}, {"params": rest, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01)
    for step, batch in enumerate(batches):
        x, y = batch[:, :4], batch[:, 4]
        learner.step(x, y, np.array([0.01]), step, Watch.NOTHING)
        reference.zero_grad()
        nn.functional.mse_loss(theirs(x).squeeze(-1), y).backward()
        reference.step()
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-11)


# --- dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_inverted_dropout_keeps_the_mean_and_has_the_variance_p_by_q(p):
    """Of b / q, b ~ Bernoulli(q), q = 1 - p: mean 1, variance p / q, m4 = p q (1 - 3 p q) / q^4.

    The mean of N of them has the standard deviation sqrt(p / q / N), their variance sqrt((m4 - var^2) / N).
    """
    count, q = 200_000, 1 - p
    model = nn.Sequential(nn.Dropout(0))
    Dropout(p=p).prepare_(model, (4,), 0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        kept = model(torch.ones(count, dtype=torch.float64))
    assert kept.unique().tolist() == pytest.approx([0, 1 / q])
    variance, fourth = p / q, p * q * (1 - 3 * p * q) / q**4
    assert kept.mean().item() == pytest.approx(1, abs=4 * math.sqrt(variance / count))
    # where all values lie one standard deviation from the mean (p = 1/2) the bound of first order vanishes
    bound = 4 * math.sqrt((fourth - variance**2) / count) + 16 * variance / count
    assert kept.var(correction=0).item() == pytest.approx(variance, abs=bound)
    assert torch.equal(model.eval()(torch.ones(count)), torch.ones(count))


def test_dropout_masks_of_different_steps_are_independent():
    """Of two fair masks a quarter of the units is kept in both."""
    model = nn.Sequential(nn.Linear(1, 10_000), nn.Dropout(0), nn.Linear(10_000, 1)).double()
    Dropout(p=0.5).prepare_(model, (4,), 0)
    masks = []
    model[1].register_forward_hook(lambda module, inputs, output: masks.append(output.detach() != 0))
    learner = ModuleLearner(model, Regression(1.0), partial(FlatOptimizer, SGD), [], 3)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for step in (0, 1, 2, 1000):
        learner.step(x, y, np.array([0.0]), step, Watch.NOTHING)
    for one, other in itertools.combinations(masks, 2):
        both = (one & other).double().mean().item()
        assert both == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 10_000))


# --- label smoothing


@pytest.mark.parametrize(
    ("smoothing", "classes", "floor"), [(0.1, 10, 0.500288), (0.3, 4, None), (0.5, 2, None)]
)
def test_the_smoothed_loss_has_the_entropy_of_its_targets_as_floor(smoothing, classes, floor):
    """-sum p ln p, p = 1 - e + e / K once and e / K for the others; 0.500288 for e = .1 and K = 10."""
    other = smoothing / classes
    right = 1 - smoothing + other
    entropy = -right * math.log(right) - (classes - 1) * other * math.log(other)
    assert floor is None or entropy == pytest.approx(floor, abs=5e-7)
    model = nn.Linear(1, classes, bias=False).double()
    nn.init.zeros_(model.weight)
    task, regularizers = Classification(classes), [LabelSmoothing(smoothing=smoothing)]
    adam = partial(torch.optim.Adam, lr=1.0)
    learner = ModuleLearner(model, task, partial(FlatOptimizer, adam), regularizers, 0)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    for step in range(800):
        learner.step(x, y, np.array([0.1 * 0.99**step]), step, Watch.SCALARS)
    trained_on = learner.watched(0).loss + learner.watched(0).penalty
    assert trained_on == pytest.approx(entropy, rel=1e-5) and trained_on >= entropy - 1e-6
    assert learner.watched(0).loss == pytest.approx(-math.log(right), rel=1e-3)


# --- mixup


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 3.0, 50.0])
def test_mixup_draws_the_greater_part_of_a_beta(alpha):
    """P(max(l, 1 - l) <= s) = 2 F(s) - 1 for s >= 1/2, F that of the symmetric Beta."""
    noise = torch.Generator().manual_seed(0)
    shares = np.array([greater_share(alpha, noise).item() for _ in range(4000)])
    beta = stats.beta(alpha, alpha)
    assert shares.min() >= 0.5 and shares.max() <= 1
    whole = shares[1 - shares < 1e-12]  # where 2 F - 1 is steeper than the numbers are dense
    atom = 2 * beta.cdf(1e-12)
    assert stats.binomtest(len(whole), len(shares), atom).pvalue > 1e-3
    rest = shares[1 - shares >= 1e-12]
    found = stats.kstest(rest, lambda s: (1 - 2 * beta.sf(s)) / (1 - atom))
    assert found.pvalue > 1e-3
    variance = 1 / (4 * (2 * alpha + 1))  # of the Beta, so the mean of (share - 1/2)^2
    squares = (shares - 0.5) ** 2
    assert squares.mean() == pytest.approx(variance, abs=4 * squares.std() / math.sqrt(len(shares)))


@pytest.mark.parametrize("alpha", [1e-300, 1e-5, 1e5, 1e300])
def test_mixup_is_sound_at_both_ends(alpha):
    """Beta(a, a) becomes 0 or 1 as a falls, and 1/2 as it grows."""
    shares = [greater_share(alpha, torch.Generator().manual_seed(seed)).item() for seed in range(50)]
    assert shares == pytest.approx([1.0 if alpha < 1 else 0.5] * 50, abs=0.01)


# --- cutout


@pytest.mark.parametrize("side", [8, 11])
@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_cutouts_mean_area_counts_what_the_border_cuts_off(size, side):
    """(s - (a (a + 1) + b (b + 1)) / 2n)^2 of n^2; a = s // 2 before, b = s - 1 - a after the centre."""
    before, after = size // 2, size - 1 - size // 2
    span = size - (before * (before + 1) + after * (after + 1)) / (2 * side)
    x = torch.ones(20_000, 1, side, side)
    cut, _ = Cutout(size=size).examples(x, torch.zeros(len(x)), torch.Generator().manual_seed(0))
    areas = (1 - cut).sum((1, 2, 3)).double()
    error = areas.std().item() / math.sqrt(len(areas))
    assert areas.mean().item() == pytest.approx(span**2, abs=4 * error + 1e-9)
