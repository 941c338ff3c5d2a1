"""Every pair of options of two groups, together in one run of two steps: all train, or say why they cannot.

The runs are a covering array: rows of one option a group, so few that each pair of options meets in at least
one of them. It is found greedily, AETG's way (Cohen et al., IEEE Transactions on Software Engineering 23,
1997): each row is the best of some that are put together option by option, the one with most new pairs first.
"""

import functools
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small import CONF, composed

from sweepwise import run
from sweepwise.config import groups as groups_module
from sweepwise.errors import UsageError
from sweepwise.store.request import Request

GROUPS = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in groups_module.GROUPS
}
BATCHES = 8  # as many tests, so that they can run side by side
CANDIDATES = 12

IMAGES = {"digits", "mnist", "fashion_mnist", "cifar10", "memmap"}
WITHOUT_IMAGES = [f"data={name}" for name in GROUPS["data"] if name not in IMAGES]
OF_IMAGES = ("cutout", "flip", "rotation", "shift_crop")
# What cannot be together, because of what it is.
IMPOSSIBLE = {
    "model=cnn2d": WITHOUT_IMAGES,
    "model=resnet": WITHOUT_IMAGES,
    "model=cnn1d": [
        *(f"data={name}" for name in (*sorted(IMAGES), "blobs", "moons", "table")),
        *(f"regularizer={name}" for name in OF_IMAGES),  # since no data set suits both
    ],
    "model=linear": ["regularizer=dropout", "optimizer=muon"],
    **{f"regularizer={name}": WITHOUT_IMAGES for name in OF_IMAGES},
    "regularizer=label_smoothing": ["data=diabetes", "data=linear"],
    "regularizer=spectral_norm": ["init=zeros"],
    "regularizer=weight_decay": ["optimizer=adamw", "optimizer=muon"],
}

Row = dict[str, str]
Pair = frozenset[tuple[str, str]]


def pairs_of(row: Mapping[str, str]) -> set[Pair]:
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def pair(one: str, other: str) -> Pair:
    return frozenset((tuple(one.split("=")), tuple(other.split("="))))


REFUSED = {pair(one, other) for one, others in IMPOSSIBLE.items() for other in others}


def possible(groups: Mapping[str, Sequence[str]], refused: set[Pair]) -> set[Pair]:
    found = {
        frozenset(((a, one), (b, other)))
        for a, b in itertools.combinations(groups, 2)
        for one in groups[a]
        for other in groups[b]
    }
    return found - refused


def covering_array(groups: Mapping[str, Sequence[str]], refused: set[Pair], seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    left = possible(groups, refused)
    rows = []
    while left:
        best: Row = {}
        order = sorted(map(sorted, left))
        for _ in range(CANDIDATES):
            row = candidate(groups, refused, left, draw.choice(order), draw)
            best = max(best, row, key=lambda row: len(pairs_of(row) & left))
        assert best, f"no row can hold any of {sorted(map(sorted, left))[:9]}"
        left -= pairs_of(best)
        rows.append(best)
    return rows


def candidate(
    groups: Mapping[str, Sequence[str]],
    refused: set[Pair],
    left: set[Pair],
    first: Sequence[tuple[str, str]],
    draw: random.Random,
) -> Row:
    """A row that begins with this pair; empty where the rest cannot be filled."""
    row = dict(first)
    rest = [group for group in groups if group not in row]
    draw.shuffle(rest)
    for group in rest:
        gains = {}
        for option in groups[group]:
            new = {frozenset(((group, option), item)) for item in row.items()}
            if not new & refused:
                gains[option] = len(new & left)
        if not gains:
            return {}
        most = max(gains.values())
        row[group] = draw.choice([option for option, gain in gains.items() if gain == most])
    return row


@functools.cache
def array() -> list[Row]:
    return covering_array(GROUPS, REFUSED)


def test_the_array_covers_every_pair_with_few_rows():
    groups = {"a": ["x", "y", "z"], "b": ["p", "q"], "c": ["s", "t", "u", "v"], "d": ["only"]}
    refused = {pair("a=x", "c=s"), pair("b=p", "c=t")}
    rows = covering_array(groups, refused)
    covered = set().union(*map(pairs_of, rows))
    assert covered >= possible(groups, refused) and not covered & refused
    assert all(row.keys() == groups.keys() for row in rows)
    assert 11 <= len(rows) <= 16 < math.prod(map(len, groups.values()))  # at least 4 x 3, less one


# What an option needs so that it meets as many others as can be; FILES and WEIGHTS are made for the tests.
NEEDS = {
    "data=digits": ["data.image=true", "data.examples=200"],
    "data=mnist1d": ["data.examples=200"],
    **{
        f"data={name}": ["data.root=FILES", "data.batch_size=7"]
        for name in ("mnist", "fashion_mnist", "cifar10")
    },
    "data=memmap": ["data.x=FILES/x.npy", "data.y=FILES/y.npy", "data.batch_size=7"],
    "data=table": ["data.path=FILES/table.csv"],
    "model=transformer": ["model.width=16", "model.heads=2", "model.layers=1"],  # of 1024 tokens of CIFAR
    "init=checkpoint": ["init.path=WEIGHTS"],
    "optimizer=other": ["optimizer._target_=torch.optim.Adamax", "optimizer.lr=0.002"],
    "scheduler=other": ["scheduler._target_=torch.optim.swa_utils.SWALR", "+scheduler.swa_lr=1e-4"],
    "early_stop=patience": ["early_stop.patience=0"],
}


def request(row: Row, home: Path, files: Path, *more: str) -> Request:
    overrides = [f"{group}={row[group]}" for group in GROUPS if group in row]  # in one order: composed alike
    overrides += [need for option in list(overrides) for need in NEEDS.get(option, [])]
    overrides += ["trainer.max_steps=2", "trainer.device=cpu", "progress=false", f"output_dir={home}", *more]
    overrides = [
        o.replace("FILES", str(files)).replace("WEIGHTS", str(home / "w.safetensors")) for o in overrides
    ]
    return composed(*overrides)


def train(row: Row, home: Path, files: Path) -> run.Result:
    if row.get("init") == "checkpoint":
        plain = run.build(request({**row, "init": "default", "regularizer": "none"}, home, files))
        save_file(plain.model.state_dict(), home / "w.safetensors")
    return run.train(request(row, home, files))


@pytest.fixture(autouse=True, scope="module")
def torch_settings():
    """A run sets what is global in torch; give it back."""
    strict = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(strict)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_possible_pair_trains_two_steps(batch, tmp_path, data_files):
    for number, row in enumerate(array()[batch::BATCHES]):
        home = tmp_path / str(number)
        home.mkdir()
        try:
            result = train(row, home, data_files)
        except Exception as error:
            raise AssertionError(" ".join(f"{group}={option}" for group, option in row.items())) from error
        assert (result.exit_code, result.run.step) == (0, 1), row


@pytest.mark.slow
def test_every_impossible_pair_is_refused_in_one_line_before_anything_is_written(tmp_path, data_files):
    plain = {"data": "digits", "model": "mlp"}
    for refused in sorted(map(sorted, REFUSED)):
        row = plain | dict(refused)
        with pytest.raises(UsageError) as error:
            train(row, tmp_path, data_files)
        assert len(str(error.value).splitlines()) == 1, row
        assert any(str(error.value).startswith(group) for group, _ in refused), (row, str(error.value))
    assert not (tmp_path / "main").exists()
