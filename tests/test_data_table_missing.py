"""Missing values and unknown categories, against scikit-learn fitted on the training part by hand."""

import json

import commands
import numpy as np
import pandas
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from small import TRAIN

from sweepwise import Arrays, run
from sweepwise.data import split
from sweepwise.data.preparation import Preparation
from sweepwise.data.table import table

NUMBERS, WORDS = ["a", "b"], ["city"]
FORMS = ("a.csv", "a.parquet")


def frame(rows: int = 200) -> pandas.DataFrame:
    """Numbers and text with gaps, a column that has none, and classes."""
    draw = np.random.default_rng(0)
    made = pandas.DataFrame(
        {
            "a": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(50, 10, rows)),
            "b": np.where(draw.random(rows) < 0.1, np.nan, draw.integers(0, 4, rows)),
            "city": np.where(draw.random(rows) < 0.3, None, draw.choice(["Rom", "Ulm", "Bad Ems"], rows)),
            "whole": draw.normal(size=rows),
        }
    )
    return made.assign(y=draw.integers(0, 3, rows))


def saved(tmp_path, made: pandas.DataFrame, name: str) -> str:
    path = tmp_path / name
    made.to_csv(path, index=False) if name.endswith("csv") else made.to_parquet(path)
    return str(path)


def places(rows: int) -> list[np.ndarray]:
    """Which rows are in the training, validation and test part."""
    data = split(Arrays("rows", np.arange(rows)[:, None], np.arange(rows) % 2, 2), standardize=False)
    return [part.x[:, 0].numpy().astype(int) for part in (data.train, data.validation, data.test)]


def by_scikit_learn(made: pandas.DataFrame, strategy: str, train: np.ndarray) -> np.ndarray:
    """All rows, prepared by what is fitted on the training rows; columns a, b, city, whole."""
    words = sorted(made.city.dropna().unique())
    encoder = OneHotEncoder(categories=[words], handle_unknown="ignore", sparse_output=False)
    numbers = SimpleImputer(strategy="most_frequent" if strategy == "most_frequent" else "median")
    text = SimpleImputer(strategy="most_frequent", missing_values=None)
    if strategy == "indicator":
        text = SimpleImputer(strategy="constant", fill_value="-", missing_values=None)
    steps = [
        ("n", numbers, NUMBERS),
        ("t", make_pipeline(text, encoder), WORDS),
        ("w", "passthrough", ["whole"]),
    ]
    features = made.drop(columns="y").astype({"city": object})
    features["city"] = features.city.where(features.city.notna(), None)
    x = ColumnTransformer(steps).fit(features.iloc[train]).transform(features)
    if strategy == "indicator":
        x = np.column_stack([x, made[[*NUMBERS, *WORDS]].isna().to_numpy(float)])
    return StandardScaler().fit(x[train]).transform(x)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("strategy", ["median", "most_frequent", "indicator"])
def test_what_is_filled_in_is_scikit_learn_s_over_the_training_part(strategy, name, tmp_path):
    made = frame()
    data = split(table(path=saved(tmp_path, made, name), missing=strategy))
    parts = places(len(made))
    expected = by_scikit_learn(made, strategy, parts[0])
    for part, rows in zip((data.train, data.validation, data.test), parts, strict=True):
        np.testing.assert_allclose(part.x, expected[rows], rtol=2e-6, atol=2e-6)
        assert part.y.tolist() == made.y.iloc[rows].tolist()
    counts = made.isna().sum()
    (note,) = [note for note in data.notes if note.startswith(f"data.missing={strategy}: ")]
    assert (
        f"{counts.sum()} missing values of 3 columns are filled in, by the training part: a ({counts.a}, "
        in note
    )
    assert f"city ({counts.city}, by " in note
    if strategy != "most_frequent":
        assert f"a ({counts.a}, by {made.a.iloc[parts[0]].median():.6g})" in note


def test_nothing_outside_of_the_training_part_moves_what_is_filled_in(tmp_path):
    made = frame()
    _, *others = places(len(made))
    moved = made.copy()
    moved.loc[np.concatenate(others), "a"] = 1e6
    for strategy in ("median", "most_frequent", "indicator"):
        one, other = (
            split(table(path=saved(tmp_path, frames, "a.csv"), missing=strategy)).train.x
            for frames in (made, moved)
        )
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", FORMS)
def test_rows_with_gaps_are_left_out(name, tmp_path):
    made = frame()
    arrays = table(path=saved(tmp_path, made, name), missing="drop")
    left = made.dropna()
    assert arrays.y.tolist() == left.y.tolist()
    np.testing.assert_array_equal(arrays.x[:, :2], left[NUMBERS])
    counts = made.isna().sum()
    assert (
        f"data.missing=drop: {len(made) - len(left)} of 200 rows are left out, for missing values of "
        f"a ({counts.a}), b ({counts.b}), city ({counts.city})" in arrays.notes
    )


@pytest.mark.parametrize("name", FORMS)
def test_missing_values_are_refused_unless_something_is_asked_for(name, tmp_path):
    path = saved(tmp_path, frame(), name)
    with pytest.raises(
        ValueError, match=r"of 200 rows values are missing in column a \(\d+\), b \(\d+\), city"
    ):
        table(path=path)
    assert table(path=path, drop=["a", "b", "city"]).x.shape == (200, 1)


@pytest.mark.parametrize("target", [[0, 1, 2, None], ["u", "v", "w", None], [0.5, 1.5, 2.25, None]], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_rows_without_a_target_are_never_used(target, name, tmp_path):
    made = frame().assign(y=target * 50)
    path = saved(tmp_path, made, name)
    with pytest.raises(ValueError, match=r"y \(50\), the target"):
        table(path=path)
    known = made[made.y.notna()]
    for strategy in ("median", "most_frequent", "indicator"):
        arrays = table(path=path, missing=strategy)
        labels = arrays.labels
        assert [labels[place] if labels else place for place in arrays.y] == known.y.tolist()
        assert (
            f"data.missing={strategy}: 50 of 200 rows are left out, for missing values of y (50), the target"
            in (arrays.notes)
        )
    assert len(table(path=path, missing="drop").y) == len(made.dropna())


def test_a_column_without_a_value_in_the_training_part_is_refused(tmp_path):
    made = frame()
    _, held, _ = places(len(made))
    made["a"] = np.nan
    made.loc[held, "a"] = 1.0
    with pytest.raises(
        ValueError, match=r"column 'a' has no value among the 120 training examples; .*drop=\[a\]"
    ):
        split(table(path=saved(tmp_path, made, "a.csv"), missing="median"))


def test_a_gap_in_a_column_that_has_none_in_the_training_part_is_filled_in_too(tmp_path):
    made = frame()
    train, held, _ = places(len(made))
    made.loc[held[:3], "whole"] = np.nan
    data = split(table(path=saved(tmp_path, made, "a.csv"), missing="indicator"))
    middle = made.whole.iloc[train]
    expected = (middle.median() - middle.mean()) / middle.std(ddof=0)
    np.testing.assert_allclose(data.validation.x[:3, 5], expected, rtol=1e-5)
    assert data.features == (6 + 3,)  # no indicator for it, which would be 0 in all of the training part


def test_a_category_that_the_training_part_does_not_have_counts_as_none(tmp_path):
    made = frame().dropna()
    train, held, _ = places(len(made))
    made = made.reset_index(drop=True)
    made["city"] = "Rom"
    made.loc[train[::2], "city"] = "Ulm"
    plain = split(table(path=saved(tmp_path, made.assign(city=made.city), "a.csv")))
    made.loc[held[:5], "city"] = "Aachen"
    data = split(table(path=saved(tmp_path, made, "a.csv")))
    assert torch.equal(data.train.x[:, 3:], plain.train.x[:, 2:]) and not data.train.x[:, 2].any()
    assert not data.validation.x[:, 2].any()
    zero = -data.preparation.scaling.mean[3:5] / data.preparation.scaling.std[3:5]
    np.testing.assert_allclose(data.validation.x[:5, 3:5], [zero] * 5, rtol=1e-6)
    assert "not in the training part, so counted as no category: city=Aachen (5 rows)" in data.notes


def test_an_npz_of_a_matrix_can_miss_values(tmp_path):
    made = frame()[["a", "b", "whole", "y"]]
    np.savez(tmp_path / "a.npz", x=made.drop(columns="y").to_numpy(), y=made.y)
    made.to_csv(tmp_path / "a.csv", index=False)
    for strategy in ("drop", "median", "most_frequent", "indicator"):
        ours = split(table(path=str(tmp_path / "a.npz"), missing=strategy))
        theirs = split(table(path=str(tmp_path / "a.csv"), missing=strategy))
        assert torch.equal(ours.train.x, theirs.train.x) and torch.equal(ours.test.y, theirs.test.y)
    with pytest.raises(ValueError, match=r"features are missing or not finite; data\.missing=drop, median"):
        table(path=str(tmp_path / "a.npz"))
    np.savez(tmp_path / "b.npz", x=np.full((8, 1, 3, 3), np.nan), y=np.arange(8) % 2)
    with pytest.raises(ValueError, match=r"data\.missing=median: must be refuse"):
        table(path=str(tmp_path / "b.npz"), missing="median")


# --- what is kept


@pytest.mark.parametrize("strategy", ["median", "most_frequent", "indicator", "drop"])
@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_what_was_fitted_prepares_other_rows_as_the_split_did(strategy, target, tmp_path):
    made = frame()
    if target == "numbers":
        made["y"] = made.whole * 3 + 40
    made = made.dropna() if strategy == "drop" else made
    data = split(table(path=saved(tmp_path, made, "a.csv"), missing=strategy))
    fields = data.preparation.fields()
    kept = Preparation.of_fields(json.loads(json.dumps(fields)))
    for part, rows in zip((data.train, data.validation, data.test), places(len(made)), strict=True):
        others = made.iloc[rows].drop(columns="y").assign(more=1)
        assert torch.equal(torch.from_numpy(kept(others)), part.x)
        assert torch.equal(torch.from_numpy(kept({name: list(others[name]) for name in others})), part.x)
    assert (kept.target_mean, kept.target_std) == (data.target_mean, data.target_std)
    assert kept.labels == ((0, 1, 2) if target == "classes" else ())
    assert kept.fields() == fields


def test_other_rows_that_cannot_be_prepared_are_refused(tmp_path):
    made = frame().dropna()
    kept = split(table(path=saved(tmp_path, made, "a.csv"))).preparation
    with pytest.raises(ValueError, match="column 'b': is absent"):
        kept(made.drop(columns="b"))
    with pytest.raises(ValueError, match=r"column 'a': values are missing, .*data\.missing=refuse"):
        kept(made.assign(a=np.nan))
    with pytest.raises(ValueError, match="column 'a': must hold numbers"):
        kept(made.assign(a="x"))
    with pytest.warns(UserWarning, match="column 'city': 108 of 108 rows hold no category .*such as 'Oslo'"):
        unknown = kept(made.assign(city="Oslo"))
    zero = -kept.scaling.mean[2:5] / kept.scaling.std[2:5]
    np.testing.assert_allclose(unknown[:, 2:5], np.tile(zero, (len(made), 1)), rtol=1e-6)


def test_a_run_keeps_it_and_its_network_gives_the_recorded_result_with_it(tmp_path):
    made = frame()
    made["y"] = np.where(made.a.fillna(50) > 50, "high", "low")
    saved(tmp_path, made, "a.csv")
    options = [
        "data=table",
        "data.path=a.csv",
        "data.missing=indicator",
        "trainer.max_epochs=4",
        "progress=false",
    ]
    done = commands.run([TRAIN, *options, "model.hidden=[8]"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs/main").glob("data*")
    record = json.loads((folder / "record.json").read_text())
    told = " ".join(done.stdout.split())
    assert all(" ".join(note.split()) in told for note in record["notes"])
    assert any(note.startswith("data.missing=indicator: ") for note in record["notes"])
    _, _, test = places(len(made))
    labels = run(folder).predict(made.iloc[test])
    assert (labels == made.y.iloc[test]).mean() == pytest.approx(
        record["best"]["measured"]["test"]["accuracy"]
    )
