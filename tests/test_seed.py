import os
import random
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sweepwise import seed as seed_module
from sweepwise.data import Arrays, Data, split
from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.seed import Noise, Seeds, draws, seed_torch, seed_worker, stream, way_back_of_generators
from sweepwise.task import Classification

CPU = torch.device("cpu")
GOLDEN = 0x9E3779B97F4A7C15
places = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def _own_global_state(monkeypatch):
    """Puts back whatever a test sets for the whole process."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    benchmark = torch.backends.cudnn.benchmark
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delitem(os.environ, "CUBLAS_WORKSPACE_CONFIG")
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    torch.use_deterministic_algorithms(flags[0])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags[1], benchmark


def shake() -> None:
    """Draws from every global generator."""
    random.random()
    np.random.rand(3)
    torch.rand(5)


# --- streams


@pytest.mark.parametrize(
    ("seed", "outputs"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]),
    ],
)
def test_one_place_is_the_published_splitmix64(seed, outputs):
    # Its k-th output is the finalizer of seed + k * GOLDEN.
    assert [stream((seed + k * GOLDEN) % 2**64) for k in range(3)] == [output >> 1 for output in outputs]


@given(places)
def test_streams_are_pure_and_within_what_torch_takes(place):
    before = random.getstate(), torch.get_rng_state()
    value = stream(*place)
    shake()
    assert value == stream(*place) and 0 <= value < 2**63
    random.setstate(before[0])
    torch.Generator().manual_seed(value)


@given(places, st.integers(0, 3), st.integers(1, 2**64 - 1))
def test_a_change_anywhere_changes_the_stream(place, where, change):
    other = list(place)
    other[where % len(place)] ^= change
    assert stream(*other) != stream(*place)
    assert stream(*place, 0) != stream(*place) != stream(0, *place)


def test_seed_and_step_are_not_added():
    grid = {stream(seed, step) for seed in range(300) for step in range(300)}
    assert len(grid) == 300 * 300
    assert stream(1, 2) != stream(2, 1)


def test_bits_of_neighbouring_places_are_unrelated():
    count = 4000
    values = np.array([stream(seed, step) for seed in range(40) for step in range(count // 40)], np.uint64)
    bits = (values[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)
    bound = 5 * 0.5 / np.sqrt(count)  # five standard deviations of a share of fair coins
    assert np.abs(bits.mean(0) - 0.5).max() < bound
    assert np.abs((bits[1:] ^ bits[:-1]).mean(0) - 0.5).max() < bound


# --- the seeds of a run


@pytest.mark.parametrize(("value", "init"), [(0, 0), (3, 5), (2**32 - 1, 2**32 - 1)])
def test_apply_seeds_every_generator(value, init):
    for _ in range(2):
        Seeds(value, data=1, init=init, noise=2).apply()
        assert random.random() == random.Random(value).random()
        assert np.random.rand() == np.random.RandomState(value).rand()
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(init)))


@pytest.mark.parametrize("value", [0, 7, 2**63 - 1])
def test_torch_is_seeded_as_by_its_own_function(value):
    drawn = []
    for seed in (torch.manual_seed, seed_torch):
        shake()
        seed(value)
        drawn.append([torch.initial_seed(), *torch.rand(3).tolist(), *torch.randn(20).tolist()])
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("kind", "asked"), [("", []), ("cuda", ["cuda"]), ("mps", ["every"]), ("xpu", ["every"])]
)
def test_only_devices_that_are_there_are_seeded(kind, asked, monkeypatch):
    seeded = []
    monkeypatch.setattr(seed_module, "_accelerator", lambda: kind)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda value: seeded.append("cuda"))
    monkeypatch.setattr(torch, "manual_seed", lambda value: seeded.append("every"))
    Seeds(3, 3, 3, 3).apply()
    assert seeded == 2 * asked and torch.initial_seed() == 3


def test_generators_go_back_to_where_they_were():
    shake()
    go_back = way_back_of_generators()
    numbers = [random.random(), np.random.rand(), torch.rand(1).item()]
    shake()
    for _ in range(2):
        go_back()
        assert [random.random(), np.random.rand(), torch.rand(1).item()] == numbers


def test_a_model_built_next_is_drawn_from_the_seed_for_weights():
    weights = []
    for seeds in (Seeds(0, 0, 7, 0), Seeds(1, 2, 7, 3), Seeds(0, 0, 8, 0)):
        seeds.apply()
        weights.append(nn.Linear(3, 3).weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_deterministic_sets_what_torch_reports_and_false_resets_it():
    for deterministic in (True, False, True, False):
        torch.backends.cudnn.benchmark = True
        Seeds(0, 0, 0, 0, deterministic=deterministic).apply()
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.deterministic == deterministic
        assert torch.backends.cudnn.benchmark is False
        assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_deterministic_refuses_an_operation_without_a_deterministic_kernel():
    twice, values = torch.tensor([0, 0]), torch.tensor([1.0, 2.0])
    Seeds(0, 0, 0, 0, deterministic=True).apply()
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(twice, values)
    Seeds(0, 0, 0, 0).apply()
    torch.zeros(3).put_(twice, values)


def test_deterministic_sets_up_cublas_unless_the_user_has():
    Seeds(0, 0, 0, 0).apply()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    Seeds(0, 0, 0, 0, deterministic=True).apply()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    Seeds(0, 0, 0, 0, deterministic=True).apply()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("base", [0, 7, 2**32 + 7])
def test_a_worker_takes_the_seed_that_torch_gave_it(base):
    torch.manual_seed(base)
    seed_worker(3)
    assert random.random() == random.Random(base % 2**32).random()
    assert np.random.rand() == np.random.RandomState(base % 2**32).rand()


# --- which models draw


class Own(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Linear(2, 2), False),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten()), False),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)), False),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (nn.Sequential(nn.Sequential(nn.Sequential(nn.AlphaDropout(0.1)))), True),
        (nn.Dropout2d(0.5), True),
        (nn.LSTM(2, 2, num_layers=2), False),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.GRU(2, 2, num_layers=2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), True),
        (nn.RReLU(), True),
        (nn.FractionalMaxPool2d(2, output_size=2), True),
        (Own(), True),
        (nn.Sequential(nn.Linear(2, 2), Own()), True),
    ],
    ids=lambda part: str(part).splitlines()[0],
)
def test_draws(model, expected):
    assert draws(model) is expected


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Dropout(0.5), (64,)),
        (nn.LSTM(3, 4, num_layers=2, dropout=0.5), (5, 2, 3)),
        (nn.MultiheadAttention(4, 2, dropout=0.5), (6, 4)),
        (nn.RReLU(), (64,)),
        (Own(), (64,)),
    ],
    ids=lambda part: str(part),
)
def test_models_that_draw_really_do_and_noise_repeats_them(model, shape):
    x = -torch.rand(shape)
    arguments = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)

    def forward(step: int):
        Noise(3, model, CPU).begin(step)
        outputs = model(*arguments)
        return (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).detach()

    first = forward(5)
    shake()
    assert torch.equal(forward(5), first)
    assert not torch.equal(forward(6), first)


# --- the noise of a step


def masks(noise: Noise, steps, between=lambda: None) -> dict[int, list[bool]]:
    layer = nn.Dropout(0.5)
    seen = {}
    for step in steps:
        between()
        noise.begin(step)
        seen[step] = layer(torch.ones(64)).bool().tolist()
    return seen


def test_noise_of_a_step_follows_from_seed_and_step_alone():
    steps = [0, 1, 2, 3, 1022, 1023, 1024, 1025, 2047, 2048, 10**6]
    reference = masks(Noise(9, nn.Dropout(0.5), CPU), steps)
    assert len({tuple(mask) for mask in reference.values()}) == len(steps)
    for order in (steps, steps[::-1], steps[3:] + steps[:3], [1023] * 3 + [5]):
        seen = masks(Noise(9, nn.Dropout(0.5), CPU), order, between=shake)
        assert all(seen[step] == reference[step] for step in order if step in reference)
    late = masks(Noise(9, nn.Dropout(0.5), CPU), range(1020, 1030))  # as after a resume
    assert all(late[step] == reference[step] for step in (1022, 1023, 1024, 1025))


def test_noise_of_other_seeds_and_steps_differs():
    seen = {
        tuple(mask)
        for seed in range(20)
        for mask in masks(Noise(seed, nn.Dropout(0.5), CPU), range(20)).values()
    }
    assert len(seen) == 20 * 20  # seed + step would give 39


def test_a_model_that_draws_nothing_leaves_the_generator_alone():
    noise = Noise(0, nn.Sequential(nn.Linear(2, 2), nn.Dropout(0)), CPU)
    state = torch.get_rng_state()
    noise.begin(0)
    assert torch.equal(torch.get_rng_state(), state)


def trained(noise_seed: int, disturb) -> torch.Tensor:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    x, y = torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)

    optimizer = partial(FlatOptimizer, partial(torch.optim.SGD, lr=0.1))
    learner = ModuleLearner(model, Classification(3), optimizer, [], noise_seed)
    for step in range(6):
        disturb(learner, [(x, y)])
        learner.step(x, y, np.array([0.1]), step, Watch.NOTHING)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_neither_validation_nor_other_draws_shift_a_training():
    plain = trained(1, lambda learner, batches: None)
    assert torch.equal(trained(1, lambda learner, batches: shake()), plain)
    assert torch.equal(trained(1, lambda learner, batches: learner.evaluate(batches)), plain)
    assert not torch.equal(trained(2, lambda learner, batches: None), plain)


# --- the order of the data


def numbered() -> Data:
    number = np.arange(100)
    return split(Arrays("rows", number[:, None].astype(float), number, 100), batch_size=4, standardize=False)


def test_order_neither_takes_from_nor_gives_to_other_draws():
    data = numbered()
    orders = [data.order(1, epoch) for epoch in range(5)]
    state = torch.get_rng_state()
    for epoch in (4, 0, 3, 2, 1):
        assert torch.equal(data.order(1, epoch), orders[epoch])
    assert torch.equal(torch.get_rng_state(), state)
    for seed in (0, 99):
        torch.manual_seed(seed)
        shake()
        assert torch.equal(data.order(1, 2), orders[2])
    assert not torch.equal(data.order(2, 2), orders[2])
