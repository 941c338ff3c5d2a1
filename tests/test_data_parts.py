"""Parts that the data say themselves: a column of a table, or the order in which the examples are stored."""

import numpy as np
import pandas
import pytest

from sweepwise import Arrays
from sweepwise.data import split
from sweepwise.data.table import table

DRAW = np.random.default_rng(0)
FORMS = ("a.csv", "a.parquet")


def saved(tmp_path, words, name: str, where: str = "last") -> tuple[str, pandas.DataFrame]:
    rows = len(words)
    made = pandas.DataFrame({"row": np.arange(rows) * 2.0, "y": DRAW.integers(0, 3, rows)})
    made.insert(2 if where == "last" else 0, "fold", words)
    path = tmp_path / name
    made.to_csv(path, index=False) if name.endswith("csv") else made.to_parquet(path)
    return str(path), made


def rows_of(data) -> list[list[int]]:
    """Which rows are in each part, by the only feature."""
    parts = (data.train, data.validation, data.test)
    return [sorted((part.x[:, 0] / 2).int().tolist()) for part in parts]


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        ("train val test", {}, []),
        ("train val test", {"validation": 0.3}, ["validation=0.3: has no effect"]),
        (
            "train val test",
            {"test": 0.1, "split_seed": 3},
            ["test=0.1: has no", "split_seed=3: moves no example"],
        ),
        ("train val test", {"split_order": "stored"}, ["split_order=stored: moves no example"]),
        ("train val test", {"split_seed": 3, "examples": 60}, []),
        ("train test", {"split_seed": 3, "validation": 0.3}, []),
        ("train test", {"split_seed": 3, "validation": 0}, ["split_seed=3: moves no example"]),
    ],
)
def test_options_of_the_split_that_change_no_part_are_noted(words, options, told, tmp_path):
    path, _ = saved(tmp_path, np.resize(words.split(), 90), "a.csv")
    notes = split(table(path=path, part="fold"), batch_size=8, **options).notes
    found = [note for note in notes if "has no effect" in note or "moves no" in note]
    assert len(found) == len(told)
    assert all(note.startswith(f"data.{start}") for note, start in zip(found, told, strict=True))


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("name", FORMS)
def test_a_column_says_the_part_of_each_row(name, where, tmp_path):
    words = DRAW.choice(["train", "Validation", "test"], 90, p=[0.6, 0.2, 0.2])
    path, made = saved(tmp_path, words, name, where)
    arrays = table(path=path, part="fold")
    assert [feature.name for feature in arrays.encoding.features] == ["row"]
    data = split(arrays, standardize=False, batch_size=8)
    expected = [made.index[made.fold == word].tolist() for word in ("train", "Validation", "test")]
    assert rows_of(data) == expected
    for part, rows in zip((data.train, data.validation, data.test), expected, strict=True):
        assert sorted(part.y.tolist()) == sorted(made.y.iloc[rows])


@pytest.mark.parametrize(
    ("words", "sizes"), [(["train", "test"], (50, 20, 30)), (["train", "val"], (50, 30, 20))]
)
def test_of_a_part_without_rows_a_fraction_is_taken(words, sizes, tmp_path):
    path, _ = saved(tmp_path, np.repeat(words, [70, 30]), "a.csv")
    data = split(table(path=path, part="fold"), standardize=False, batch_size=8)
    assert tuple(map(len, rows_of(data))) == sizes
    assert sorted(np.concatenate(rows_of(data)).tolist()) == list(range(100))
    named = data.test if words[1] == "test" else data.validation
    assert sorted((named.x[:, 0] / 2).int().tolist()) == list(range(70, 100))


def test_rows_left_out_are_left_out_of_the_parts_too(tmp_path):
    path, made = saved(tmp_path, ["train", "val", "test", "train"] * 15, "a.csv")
    made.loc[[0, 1, 2], "row"] = np.nan
    made.to_csv(path, index=False)
    data = split(table(path=path, part="fold", missing="drop"), standardize=False, batch_size=8)
    left = made.dropna()
    assert rows_of(data) == [left.index[left.fold == word].tolist() for word in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "y"}, "data.part=y: must hold train, validation (or val) and test only, and holds 0, 1, 2"),
        ({"part": "fold", "target": "fold"}, "data.part=fold: must not be the target"),
        ({"part": "fold", "drop": ["fold"]}, "data.part=fold: must not be the target"),
        ({"part": "fould"}, "did you mean data.part=fold?"),
    ],
)
@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_column_of_parts_is_refused(options, message, name, tmp_path):
    path, _ = saved(tmp_path, ["train", "val", "test", "train"] * 15, name, "first")
    with pytest.raises(ValueError) as refused:
        table(path=path, **options)
    assert message in str(refused.value)


def test_a_table_without_rows_for_training_is_refused(tmp_path):
    path, _ = saved(tmp_path, ["val", "val", "test"] * 15, "a.csv")
    with pytest.raises(ValueError, match=r"data\.part: must leave examples .*, and leaves 0, 30, 15"):
        split(table(path=path, part="fold"), batch_size=8)


def test_a_row_that_names_no_part_is_refused(tmp_path):
    path, _ = saved(tmp_path, ["train", "val", "test", ""] * 15, "a.csv", "first")
    with pytest.raises(ValueError, match=r"data\.part=fold: 15 of 60 rows name no part"):
        table(path=path, part="fold")


def test_parts_change_the_fingerprint(tmp_path):
    path, made = saved(tmp_path, ["train", "val", "test", "train"] * 15, "a.csv", "first")
    one = split(table(path=path, part="fold"), batch_size=8)
    made.assign(fold=["val", "train", "test", "train"] * 15).to_csv(path, index=False)
    assert one.sha256 != split(table(path=path, part="fold"), batch_size=8).sha256


def test_the_stored_order_is_that_of_time():
    x = np.arange(100.0)[:, None]
    data = split(
        Arrays("time", x, np.arange(100) % 2, 2), standardize=False, batch_size=8, split_order="stored"
    )
    assert [part.x[:, 0].tolist() for part in (data.train, data.validation, data.test)] == [
        list(range(60)),
        list(range(60, 80)),
        list(range(80, 100)),
    ]
    few = split(Arrays("time", x, np.arange(100) % 2, 2), batch_size=8, split_order="stored", examples=50)
    assert (len(few.train.y), len(few.test.y)) == (30, 10)


# --- a file for each part


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("target", ["numbers", "words", "real"])
def test_files_of_their_own_give_what_one_file_with_a_column_gives(target, name, tmp_path):
    rows = 120
    made = pandas.DataFrame({"a": DRAW.normal(size=rows), "city": DRAW.choice(["Rom", "Ulm", "Bonn"], rows)})
    made["y"] = {"numbers": DRAW.integers(0, 3, rows), "real": DRAW.normal(size=rows)}.get(
        target, DRAW.choice(["u", "v"], rows)
    )
    words = np.repeat(["train", "validation", "test"], [70, 20, 30])
    paths = {}
    for word in ("train", "validation", "test"):
        paths[word] = tmp_path / f"{word}{name}"
        part = made[words == word].reset_index(drop=True)
        part.to_csv(paths[word], index=False) if name.endswith("csv") else part.to_parquet(paths[word])
    made.assign(fold=words).to_csv(tmp_path / "all.csv", index=False)
    files = {f"{word}_path": str(paths[word]) for word in ("validation", "test")}
    several = split(table(path=str(paths["train"]), **files), batch_size=8)
    one = split(table(path=str(tmp_path / "all.csv"), part="fold", target="y"), batch_size=8)
    for ours, theirs in zip(
        (several.train, several.validation, several.test), (one.train, one.validation, one.test), strict=True
    ):
        assert np.array_equal(ours.x, theirs.x) and np.array_equal(ours.y, theirs.y)
    assert several.classes == one.classes and len(several.test.y) == 30


def test_only_a_test_file_leaves_the_validation_part_to_the_split(tmp_path):
    path, made = saved(tmp_path, ["x"] * 100, "a.csv")
    made[["row", "y"]].to_csv(path, index=False)
    made[["row", "y"]].iloc[:25].assign(row=lambda frame: frame.row + 1000).to_csv(
        tmp_path / "b.csv", index=False
    )
    data = split(table(path=path, test_path=str(tmp_path / "b.csv")), batch_size=8, standardize=False)
    assert list(map(len, rows_of(data))) == [75, 25, 25] and min(rows_of(data)[2]) == 500


@pytest.mark.parametrize("labels", [["1", "01"], [str(2**60), str(2**60 + 1)], ["1", "x"]])
def test_labels_of_several_files_stay_exact(labels, tmp_path):
    for word, label in zip(("train", "test"), labels, strict=True):
        (tmp_path / f"{word}.csv").write_text("a,y\n" + f"1.5,{label}\n2.5,{label}\n" * 20)
    arrays = table(
        path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), task="classification"
    )
    assert set(map(str, arrays.labels)) == set(labels)


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        ("a,y\n1,0\n", {}, "lacks column b of data.path="),
        ("a,b,y\n1,x,0\n", {}, "column 'b' holds text, such as 'x', and numbers in another file"),
        ("a,b,z\n1,2,0\n", {}, "data.target=y: no column of data.test_path="),
        (None, {}, "no such file"),
        ("a,b,y\n1,2,0\n", {"part": "b"}, "data.part=b: must be null with files of their own"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(other, options, message, tmp_path):
    (tmp_path / "train.csv").write_text("a,b,y\n" + "1,2,0\n3,4,1\n" * 20)
    if other is not None:
        (tmp_path / "test.csv").write_text(other)
    with pytest.raises(ValueError) as refused:
        table(path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), **options)
    assert message in str(refused.value)
