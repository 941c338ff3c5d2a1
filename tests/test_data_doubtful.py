"""Numbers, names and shapes that may mean something else: read as they are meant, or said."""

import re
import shlex

import numpy as np
import pytest
from scipy import sparse

from sweepwise.data import split
from sweepwise.data.channels import channels_first
from sweepwise.data.table import table

ROWS = 12
Y = np.arange(20) % 2


def written(path, header, row, rows=ROWS):
    path.write_text("\n".join([header, *map(row, range(rows)), ""]))
    return str(path)


def column(values):
    """A csv file of a column of these values, one of numbers and a target."""
    return "a,b,y", lambda i: f"{values[i % len(values)]},{i * i + 0.5},{i % 2}"


def test_a_delimiter_at_the_end_of_each_row_makes_no_column(tmp_path):
    path = written(tmp_path / "a.csv", "a,y,", lambda i: f"{i + 0.5},{i % 2},")
    arrays = table(path=path)
    assert arrays.x.tolist() == [[i + 0.5] for i in range(ROWS)] and arrays.classes == 2
    path = written(tmp_path / "b.csv", "a,y,", lambda i: f"{i + 0.5},{i % 2}," + "x" * (i == 9))
    with pytest.raises(ValueError, match="column 3 has no name; give it one"):
        table(path=path)
    path = written(tmp_path / "c.csv", "a,y", lambda i: f"{i + 0.5},{i % 2},")
    with pytest.raises(
        ValueError, match=r"row 2 has 3 cells, the header 2 .*ends with a delimiter, so must the"
    ):
        table(path=path)


GERMAN = {"1.234,5": 1234.5, "234,5": 234.5, "-1.234.567,25": -1234567.25, "1.000": 1000.0, "12": 12.0}


def test_points_between_thousands_where_decimals_stand_after_a_comma(tmp_path):
    texts = list(GERMAN)
    path = written(tmp_path / "a.csv", "a;y", lambda i: f"{texts[i % 5]};{i % 2}")
    arrays = table(path=path, delimiter="semicolon", decimal="comma")
    assert arrays.x[:5, 0].tolist() == list(GERMAN.values())
    path = written(tmp_path / "b.csv", "a;b;y", lambda i: f"1.{234 + i};{i},5;{i % 2}")
    with pytest.raises(ValueError, match=r"column 'a' holds numbers with decimal points, such as '1.234'"):
        table(path=path, delimiter="semicolon", decimal="comma")  # which of the two is meant, nobody knows


def test_a_minus_of_typesetting_is_one(tmp_path):
    path = written(tmp_path / "a.csv", *column(["\u22121.5", "2", "\u2212.25"]))
    assert table(path=path).x[:3, 0].tolist() == [-1.5, 2, -0.25]
    path = written(tmp_path / "b.csv", "a,y", lambda i: f"{i},\u2212{i}.5")
    assert table(path=path).y.tolist() == [-i - 0.5 for i in range(ROWS)]
    path = written(tmp_path / "c.csv", *column(["\u2212", "a\u22121"]))  # words stay as they are
    assert any("'a'" not in note and "a (2)" in note for note in table(path=path).notes)


NOTED = {
    "zip codes": (
        ["02138", "10115"],
        r"zeros in front, as codes have .*: a; .*'data.categories=\[a\]' makes",
    ),
    "dates": (["20240131", "19991231"], r"look like dates \(20240131\): a; taken as numbers"),
    "versions as numbers": (
        ["1.1", "1.10", "1.2"],
        r"written in two ways, as versions are .*: a; taken as num",
    ),
    "versions": (["1.1.0", "1.10.2"], r"versions as categories, each a word without an order: a; leave out"),
    "question marks": (
        ["?", "u", "v"],
        r"'a' holds '\?', taken as a value of its own; if it stands for missing",
    ),
    "dashes among few numbers": (["-", "-", "-", "4"], r"'a' holds '-', taken as a value of its own"),
}


@pytest.mark.parametrize("kind", NOTED)
def test_what_looks_like_something_else_is_noted_with_a_way_out_that_works(kind, tmp_path):
    values, words = NOTED[kind]
    path = written(tmp_path / "a.csv", *column(values))
    (note,) = (note for note in table(path=path).notes if re.search(words, note))
    if way := re.search(r"'?data\.(categories|missing_values|drop)=.*\]'?", note):
        key, _, value = shlex.split(way[0])[0].partition("=")
        given = [word.strip('"') for word in value[1:-1].split(",")]
        options = {key.removeprefix("data."): given}
        again = table(path=path, **options, missing="most_frequent" if "missing" in key else "refuse")
        assert not any(re.search(words, note) for note in again.notes)


@pytest.mark.parametrize(
    "values", [["0", "1"], ["0.5", "1.25"], ["1", "20240131"], ["10", "100"], ["0.0", "1.5"]]
)
def test_plain_numbers_are_not_doubted(values, tmp_path):
    notes = table(path=written(tmp_path / "a.csv", *column(values))).notes
    assert not any(re.search("codes have|look like dates|versions|taken as", note) for note in notes)


def test_a_target_with_a_word_for_missing_is_noted(tmp_path):
    path = written(tmp_path / "a.csv", "a,y", lambda i: f"{i * i + 0.5},{'?' if i == 3 else i % 2}")
    assert any(note.startswith("'y' holds '?', taken as a value") for note in table(path=path).notes)


def test_one_file_is_one_part(tmp_path, monkeypatch):
    path = written(tmp_path / "a.csv", *column(["1.5", "2"]))
    monkeypatch.chdir(tmp_path)
    for key in ("test_path", "validation_path"):
        with pytest.raises(ValueError, match=rf"data.{key}=\./a.csv: must be another file than data.path"):
            table(path=path, **{key: "./a.csv"})
    other = written(tmp_path / "b.csv", *column(["9", "8"]))
    with pytest.raises(ValueError, match=r"must be another file than data\.validation_path"):
        table(path=path, validation_path=other, test_path=other)


def again(arrays, **options):
    """The notes on rows of several parts."""
    made = split(arrays, batch_size=4, **options)
    return [note for note in made.notes if "training part has too" in note]


@pytest.mark.parametrize(
    ("shared", "told"), [(0, ""), (3, "3 of the test part"), (ROWS, f"{ROWS} of the test part")]
)
def test_rows_of_two_parts_are_counted(shared, told, tmp_path):
    """Of 1,000 random rows none equals another."""
    draw = np.random.default_rng(0).normal(size=(2, 1000)).round(6)
    first = written(tmp_path / "a.csv", "a,b,y", lambda i: f"{draw[0, i]},{i % 7},{i % 2}", 1000)
    rows = [*range(shared), *range(1000 - ROWS + shared, 1000)]
    part = [draw[0, i] if i < shared else draw[1, i] for i in rows]
    second = written(tmp_path / "b.csv", "a,b,y", lambda i: f"{part[i]},{rows[i] % 7},{rows[i] % 2}")
    found = again(table(path=first, test_path=second))
    assert len(found) == bool(told) and all(told in note for note in found)


def test_the_same_features_with_another_target_are_another_row(tmp_path):
    first = written(tmp_path / "a.csv", "a,b,y", lambda i: f"{i},{i % 5},{i % 2}")
    second = written(tmp_path / "b.csv", "a,b,y", lambda i: f"{i},{i % 5},{1 - i % 2}")
    assert not again(table(path=first, test_path=second))


@pytest.mark.parametrize("validation", [0.2, 0])
def test_rows_of_a_part_that_is_trained_on_are_none_of_another_part(validation, tmp_path):
    parts = ["train", "train", "val", "test"]
    path = written(tmp_path / "a.csv", "a,part,y", lambda i: f"{i // 4},{parts[i % 4]},{i // 4 % 2}", 40)
    (note,) = again(table(path=path, part="part"), validation=validation)
    shared = "10 of the validation part and 10 of the test part" if validation else "10 of the test part"
    assert f"same target: {shared}; " in note


NPZ = {
    "other names": (
        {"images": np.zeros((20, 4)), "labels": Y},
        "features are expected as x and targets as y",
    ),
    "without names": (
        {"arr_0": np.zeros((20, 4)), "arr_1": Y},
        "there is arr_0, arr_1; features are expected",
    ),
    "parts": (
        {"x_train": np.zeros((20, 4)), "y_train": Y, "x_test": np.zeros((9, 4)), "y_test": Y[:9]},
        "put the parts together as x and y; the split is made by data.validation and data.test",
    ),
    "objects": ({"x": np.array([[1, "a"]] * 20, dtype=object), "y": Y}, "save numbers or text"),
    "bfloat16": ({"x": np.zeros((20, 4), "V2"), "y": Y}, "such as bfloat16 must be saved as float32"),
    "complex": ({"x": np.zeros((20, 4), complex), "y": Y}, "save real and imaginary parts as two features"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_arrays_of_other_kinds_or_names_are_refused_with_a_way_out(kind, tmp_path):
    arrays, words = NPZ[kind]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(words)):
        table(path=str(tmp_path / "a.npz"))


def test_a_sparse_matrix_is_told_as_one(tmp_path):
    sparse.save_npz(tmp_path / "a.npz", sparse.random(20, 5, 0.5, format="csr"))
    with pytest.raises(
        ValueError, match=r"scipy's sparse matrix; save x=matrix.toarray\(\) and y by np.savez"
    ):
        table(path=str(tmp_path / "a.npz"))


def test_columns_of_one_channel_have_it_first_and_nothing_is_reordered():
    x = np.arange(20 * 64.0).reshape(20, 64, 1)
    turned, (note,) = channels_first("data.path=a.npz", x, None)
    assert turned.shape == (20, 1, 64) and np.array_equal(turned.ravel(), x.ravel())
    assert note == "examples of 64 x 1: 1 channel of 64; data.channels says where it is"
    assert channels_first("data.path=a.npz", x, "first")[0].shape == (20, 64, 1)


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 28, 28), (64, 4, 4), (32, 3, 3), (8, 1, 1), (3, 100), (4, 10)]
)
def test_channels_that_are_first_are_left_there(shape):
    assert channels_first("data.path=a.npz", np.zeros((9, *shape)), None)[0].shape == (9, *shape)


@pytest.mark.parametrize("shape", [(28, 28, 3), (28, 28, 1), (64, 48, 4), (5, 5, 3), (4, 4, 3), (100, 3)])
def test_channels_that_are_last_are_refused(shape):
    with pytest.raises(ValueError, match="channels last"):
        channels_first("data.path=a.npz", np.zeros((9, *shape)), None)
