"""Parts and features that hardly vary, or that are too large."""

import json

import numpy as np
import pytest
from small import TRAIN

from sweepwise import Arrays
from sweepwise.data import split

DRAW = np.random.default_rng(0)
OPTIONS = {"batch_size": 8, "validation": 0.2, "test": 0.2}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.1 + 0.2, 1e9 + 0.1, -3e-5])
def test_a_feature_that_varies_by_rounding_alone_is_constant(value):
    x = np.column_stack([np.where(np.arange(60) % 2, value, np.nextafter(value, 9)), DRAW.normal(size=60)])
    data = split(Arrays("near", x, np.arange(60) % 2, 2), **OPTIONS)
    assert data.train.x[:, 0].abs().max() < 1e-6 and data.train.x[:, 1].std() > 0.9


def test_a_feature_that_varies_little_is_scaled():
    x = np.column_stack([1e9 + np.arange(60) / 64, DRAW.normal(size=60)])
    data = split(Arrays("near", x, np.arange(60) % 2, 2), **OPTIONS)
    assert data.train.x[:, 0].std(correction=0).item() == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("row", [0, 7, 31])  # of any part
def test_features_too_large_for_float32_are_refused(row, standardize):
    x = DRAW.normal(size=(60, 3))
    x[:, 1] = 1.0
    x[row, 1] = 1e300
    with pytest.raises(ValueError, match=r"feature|not finite"):
        split(Arrays("large", x, np.arange(60) % 2, 2), standardize=standardize, **OPTIONS)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("y", [np.linspace(-1e300, 1e300, 60), np.where(np.arange(60) == 7, np.nan, 1.0)])
def test_targets_that_cannot_be_scaled_are_refused(y):
    with pytest.raises(ValueError, match="targets"):
        split(Arrays("large", DRAW.normal(size=(60, 2)), y, 0), **OPTIONS)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_of_one_example_has_no_r2_and_no_warning(part, tmp_path, monkeypatch, as_command):
    monkeypatch.chdir(tmp_path)
    options = ["data=diabetes", f"data.{part}=0.002", "trainer.max_epochs=1", "progress=false"]
    code, out, err = as_command(TRAIN, *options)
    assert code == 0 and err == "" and "inf" not in out
    (folder,) = (tmp_path / "outputs/main").glob("data*")
    record = json.loads((folder / "record.json").read_text())
    assert f"the {part} part has 1 equal targets, for which R2 is not defined" in record["notes"]
