"""What the training part does not show, though the validation or test part has it, is noted."""

import numpy as np
import pandas
import pytest

from sweepwise import Arrays, split
from sweepwise.data.table import table

DRAW = np.random.default_rng(0)
STEP = np.repeat([0.0, 1.0], [60, 40])  # the stored order gives 60 examples to the training part
Y = np.arange(100) % 2
SAME = "the same in all training examples, or nearly, and not in the other parts: "


def notes(x, y=Y, classes=2, **options):
    return split(Arrays("own", x, y, classes), split_order="stored", batch_size=8, **options).notes


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("values", [1e6 * STEP, 7 - STEP, STEP + 1e-6 * np.arange(100), STEP * Y])
def test_features_that_vary_outside_the_training_part_alone_are_named(values, standardize):
    x = np.column_stack([DRAW.normal(size=100), values, np.full(100, 0.1)])
    (note,) = notes(x, standardize=standardize)
    assert note == f"{SAME}feature or channel 1; nothing is learnt of it"


def test_channels_are_named_too():
    x = DRAW.normal(size=(100, 2, 5))
    x[:60, 1] = 0.1
    assert notes(x) == (f"{SAME}feature or channel 1; nothing is learnt of it",)


@pytest.mark.parametrize("offset", [0.1, 1e9])
def test_what_differs_by_rounding_and_what_varies_in_training_has_no_note(offset):
    rounded = offset * (1 + np.finfo(float).eps * STEP)
    heavy = DRAW.standard_cauchy(100)
    assert not notes(np.column_stack([rounded, heavy, STEP * 30 + DRAW.normal(size=100)]))


def test_a_column_is_named(tmp_path):
    made = pandas.DataFrame({"a": DRAW.normal(size=100), "sensor": STEP, "y": Y})
    made.to_csv(tmp_path / "a.csv", index=False)
    data = split(table(path=str(tmp_path / "a.csv")), split_order="stored", batch_size=8)
    assert f"{SAME}column 'sensor'; nothing is learnt of it" in data.notes


def test_classes_that_only_other_parts_have_are_named():
    x, y = DRAW.normal(size=(100, 2)), np.repeat([0, 2, 0, 3, 2], [60, 10, 10, 5, 15])
    learnt = "; they cannot be learnt"
    told = "classes that no training example has: 2 (10 in the validation part, 15 in the test part), "
    assert notes(x, y, 4) == (f"{told}3 (5 in the test part){learnt}",)
    named = split(Arrays("own", x, y % 3, 3, labels=("a", "b", "c")), split_order="stored", batch_size=8)
    assert named.notes == (told[:-2].replace(": 2", ": c") + learnt,)
    assert not notes(x, np.arange(100) % 3, 4)  # which nobody has
