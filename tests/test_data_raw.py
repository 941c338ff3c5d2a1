"""What arrays given in Python must be, and that a message's way out is one."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from sweepwise import Arrays, UsageError
from sweepwise import split as split_of
from sweepwise.data import Part
from sweepwise.data.digits import digits
from sweepwise.data.memmap import memmap
from sweepwise.data.synthetic import blobs, linear, moons
from sweepwise.model.mlp import mlp

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
TWO = (X[:, 0] > 0).astype(int)
REAL = X[:, 1].copy()
TEXT = np.where(TWO, "yes", "no")
split = partial(split_of, batch_size=8)


def but(values, position, value):
    changed = np.array(values, dtype=float)
    changed[position] = value
    return changed


@pytest.mark.parametrize(
    ("x", "y", "classes", "message"),
    [
        (X, np.r_[TWO, TWO], 2, "y: must have a target for each of the 60 examples, and has 120"),
        (X, TWO[:-1], 2, "y: must have a target for each of the 60 examples, and has 59"),
        (X, np.eye(2)[TWO][:, None], 2, r"y: must have the shape (60,), not (60, 1, 2)"),
        (X, but(TWO, 3, np.nan), 2, "y: 1 of 60 targets are missing or not finite"),
        (X, but(REAL, [1, 5], np.inf), 0, "y: 2 of 60 targets are missing or not finite"),
        (X, np.where(np.arange(N) == 3, None, TEXT), 2, "y: 1 of 60 targets are missing or not finite"),
        (X, pd.Series(TEXT).where(TWO == 1, pd.NA), 2, f"y: {N - TWO.sum()} of 60 targets are missing"),
        (X, pd.Series(TWO, dtype="Int64").where(X[:, 1] > 0), 2, "of 60 targets are missing"),
        (X, TEXT, 0, "y: must hold real numbers with classes=0, and holds <U3"),
        (X, REAL * 1j, 0, "y: must hold real numbers with classes=0, and holds complex128"),
        (X, np.ma.masked_less(REAL, 0), 0, "values are masked; use y.filled(VALUE)"),
        (np.ma.masked_less(X, 0), REAL, 0, "values are masked; use x.filled(VALUE)"),
        (X, None, 2, "y: must have the shape (60,), not ()"),
        (None, TWO, 2, "x: must have the shape (examples, *features), not ()"),
        (X * 1j, TWO, 2, "x: must hold real numbers, and holds complex128"),
        (np.where(X > 0, "a", "b"), TWO, 2, "x: must hold real numbers, and holds <U1"),
        (X[:, :0], TWO, 2, "x: must have at least one feature"),
        ([[1.0, 2.0], [3.0]], [0, 1], 2, "x: must be an array of numbers"),
        (X, TWO, 2.0, "data.classes=2.0: must be a whole number in [0, inf)"),
        (X, TWO, True, "data.classes=true: must be a whole number in [0, inf)"),
        (X, TWO, -2, "data.classes=-2: must be in [0, inf)"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(x, y, classes, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Arrays("u", x, y, classes)


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (X, TWO[:, None], 2),
        (X, REAL[:, None], 0),
        (X[:, 0], TWO, 2),
        (X, np.eye(2)[TWO], 2),
        (X, 2 * TWO - 1, 2),
        (X, np.where(TWO, 0.9, 0.2), 2),
        (X, TEXT, 2),
        (X, TEXT, 5),
        (X, pd.Series(TEXT), 2),
        (X, np.where(TWO, -100, 0), 2),  # torch's cross-entropy leaves out targets of -100
        (X, np.arange(N) % 7, 3),
        (X, TWO + 1, 2),
        (X, TWO.astype(object), 2),
        (X, np.where(TWO, "a", np.array(1, object)), 2),
        (X, pd.DataFrame({"target": TWO}), 2),
        (X, pd.DataFrame(np.eye(2)[TWO]), 2),
        (X, torch.tensor(REAL)[:, None], 0),
        (pd.Series(X[:, 0]), TWO, 2),
        (X.astype(object), TWO, 2),
        (X, REAL.astype(object), 0),
        (X, REAL, 2),
    ],
)
def test_the_way_out_of_a_message_is_one(x, y, classes):
    with pytest.raises(UsageError) as refused:
        Arrays("u", x, y, classes)
    text = str(refused.value)
    names = {"x": x, "y": y, "classes": classes, "np": np}
    if way_out := re.search(r"; use (np\..*?)(?:, which|, and| if its|$)", text):
        names[re.search(r"\b[xy]\b", way_out[1])[0]] = eval(way_out[1], names)
    if counted := re.search(r"(?:, and|use) classes=(\d+)", text):
        names["classes"] = int(counted[1])
    assert way_out or counted
    arrays = Arrays("u", names["x"], names["y"], names["classes"])
    assert len(split(arrays).train.y) == 36


def test_labels_are_compared_with_numpy_s_numbering():
    arrays = Arrays("u", X, np.unique(TEXT, return_inverse=True)[1], 2)
    assert np.array_equal(arrays.y, TWO)


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (X.tolist(), TWO.tolist(), 2),
        (torch.tensor(X, requires_grad=True), torch.tensor(TWO), np.int64(2)),
        (pd.DataFrame(X), pd.Series(TWO), torch.tensor(2)),
        (np.ma.array(X), TWO.astype(bool), np.array(2)),
        (X, TWO.astype(np.float32), 2),
        (X, TWO.astype(np.uint8), 2),
    ],
)
def test_what_is_equal_is_taken(x, y, classes):
    own, plain = split(Arrays("u", x, y, classes)), split(Arrays("u", X, TWO, 2))
    assert torch.equal(own.train.x, plain.train.x) and torch.equal(own.train.y, plain.train.y)
    assert (own.classes, type(own.classes)) == (2, int)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"x_test": X}, "x_test and y_test: must be given together"),
        ({"y_test": TWO}, "x_test and y_test: must be given together"),
        ({"x_test": X[:, :2], "y_test": TWO}, r"x_test: must have examples of the shape \(3,\), not \(2,\)"),
        ({"x_test": X[:5], "y_test": TWO}, "y_test: must have a target for each of the 5 examples"),
        ({"x_test": X, "y_test": TWO + 1}, "holds 2; use the numbers that y has for the same classes"),
        ({"x_test": X, "y_test": TEXT}, "such as .*; use the numbers that y has for the same classes"),
    ],
)
def test_a_test_part_of_its_own_is_held_to_the_same(test, message):
    with pytest.raises(UsageError, match=message):
        Arrays("u", X, TWO, 2, **test)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_number_that_no_network_takes_is_refused_in_every_part(part, value):
    rows = split(Arrays("u", np.arange(N)[:, None], REAL, 0), standardize=False)
    row = int(getattr(rows, part).x[4, 0])
    broken = but(X, (row, 2), value)
    with pytest.raises(ValueError, match="feature or channel 2 has values that are missing, or too large"):
        split(Arrays("u", broken, REAL, 0), standardize=False)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_targets_whose_deviation_no_float_holds(factor):
    y = REAL * factor
    with pytest.raises(ValueError, match=r"some targets are missing,? or too large"):
        split(Arrays("u", X, y, 0))
    assert split(Arrays("u", X, y / abs(y).max(), 0)).train.y.std(correction=0).item() == pytest.approx(1)


def test_half_precision_is_scaled_in_double():
    y = np.where(X[:, 0] > 0, 60_000, -60_000).astype(np.float16)
    half, double = split(Arrays("u", X, y, 0)), split(Arrays("u", X, y.astype(np.float64), 0))
    assert torch.equal(half.train.y, double.train.y) and half.train.y.std(
        correction=0
    ).item() == pytest.approx(1)


def test_options_of_the_split_as_numpy_has_them():
    numpys = {"batch_size": np.int64(7), "validation": np.float32(0.25), "shuffle": np.bool_(False)}
    own = split(Arrays("u", X, TWO, 2), **numpys, examples=torch.tensor(40))
    plain = split(Arrays("u", X, TWO, 2), batch_size=7, validation=0.25, shuffle=False, examples=40)
    assert torch.equal(own.train.x, plain.train.x)
    assert (own.batch_size, own.shuffle) == (7, False) and type(own.batch_size) is int
    with pytest.raises(UsageError, match=r"data\.batch_size=7\.0: must be a whole number"):
        split(Arrays("u", X, TWO, 2), batch_size=7.0)


# --- data that were not made by `split`


def hand_made(**changes):
    return replace(split(Arrays("u", X, REAL, 0)), **changes)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda y: y[:, None], r"\.y: must have the shape \((\d+),\), not \(\1, 1\)"),
        (lambda y: torch.cat([y, y]), r"\.y: must have a target for each of the \d+ examples"),
        (lambda y: y * torch.nan, r"\.y: \d+ of \d+ targets are missing or not finite"),
    ],
)
def test_a_part_made_by_hand_is_held_to_the_same(part, y, message):
    """A mean squared error of (n,) outputs and (n, 1) targets would be taken over n x n pairs."""
    own = getattr(hand_made(), part)
    with pytest.raises(UsageError, match=part + message):
        hand_made(**{part: Part(own.x, y(own.y))})


def test_labels_of_a_part_made_by_hand():
    data = split(Arrays("u", X, TWO, 2))
    with pytest.raises(UsageError, match=r"train\.y: must hold whole numbers from 0 to 1 .* holds -100"):
        replace(data, train=Part(data.train.x, data.train.y.where(data.train.y == 0, -100)))
    assert type(replace(data, batch_size=np.int64(4)).batch_size) is int
    with pytest.raises(UsageError, match=r"data\.batch_size=0: must be in \[1, inf\)"):
        replace(data, batch_size=0)


# --- functions that load and build


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: moons(points=0), "data.points=0: must be in [4, inf)"),
        (lambda: blobs(points=100.5), "data.points=100.5: must be a whole number"),
        (lambda: linear(noise=-1), "data.noise=-1: must be in [0, inf)"),
        (lambda: digits(image=1), "data.image=1: must be true or false"),
        (lambda: mlp((3,), 2, hidden=[-1]), "model.hidden=[-1]: must be "),
        (lambda: mlp((3,), 2, hidden=[8], norm="bach"), "model.norm=bach: must be one of"),
        (lambda: mlp((3,), 2, hidden=[8], dropout=2), "model.dropout=2: must be in [0, 1)"),
    ],
)
def test_called_from_python_they_refuse_what_a_config_may_not_say(make, message):
    with pytest.raises(UsageError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_numbers_of_numpy_and_paths_are_taken(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", TWO)
    arrays = memmap(x=tmp_path / "x.npy", y=tmp_path / "y.npy", classes=np.int64(2))
    assert arrays.classes == 2 and isinstance(arrays.x, np.memmap)
    assert np.array_equal(moons(points=np.int64(50), noise=np.float64(0.1)).x, moons(points=50, noise=0.1).x)
    assert digits(image=np.bool_(True)).x.shape[1:] == (1, 8, 8)
    assert mlp((3,), 2, hidden=np.array([8, 4])).linear1.weight.shape == (4, 8)


def test_numbers_in_an_array_of_objects_keep_their_order():
    y = np.array([*range(12)] * 2, object)
    with pytest.raises(
        ValueError, match=r"use np\.unique\(np\.asarray\(list\(y\)\), return_inverse=True\)"
    ) as error:
        Arrays("mine", np.zeros((24, 2), np.float32), y, classes=12)
    expression = str(error.value).split("use ")[1].split(", which")[0]
    assert eval(expression, {"np": np, "y": y}).tolist() == y.tolist()
