"""Tables of the user's own, compared with pandas and by hand."""

import sys

import numpy as np
import pandas
import pyarrow
import pytest
import sklearn.datasets
from pyarrow import parquet

from sweepwise.data import split
from sweepwise.data.table import table
from sweepwise.data.targets import find_targets

IRIS = sklearn.datasets.load_iris(as_frame=True)


def written(tmp_path, text: str | bytes, name: str = "a.csv") -> str:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def rows(count: int, header: str = "a,b,c") -> str:
    """Numbers, and a text that alternates."""
    return "\n".join([header, *(f"{n},{n / 2},{'pq'[n % 2]}" for n in range(count))]) + "\n"


def refusal(path: str, **options) -> str:
    with pytest.raises(ValueError) as caught:
        table(path=path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["iris.csv", "iris.parquet", "iris.npz"])
def test_every_format_gives_the_same_set(name, tmp_path):
    path = tmp_path / name
    frame = IRIS.data.assign(species=IRIS.target_names[IRIS.target])
    if name.endswith("csv"):
        frame.to_csv(path, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        np.savez(path, x=IRIS.data.to_numpy(), y=frame.species.to_numpy(dtype=str))
    arrays = table(path=str(path))
    np.testing.assert_array_equal(arrays.x, IRIS.data.to_numpy())
    assert arrays.y.tolist() == IRIS.target.tolist()
    assert (arrays.name, arrays.classes, arrays.y.dtype) == (name, 3, np.int64)
    (note,) = arrays.notes
    assert note.endswith("3 classes, since it holds text: 0 = setosa, 1 = versicolor, 2 = virginica")
    assert split(arrays).notes == arrays.notes


def test_a_regression_is_found_out(tmp_path):
    path = tmp_path / "a.csv"
    diabetes = sklearn.datasets.load_diabetes(as_frame=True, scaled=False)
    diabetes.frame.to_csv(path, index=False)
    arrays = table(path=str(path))
    assert arrays.classes == 0 and arrays.y.tolist() == diabetes.target.tolist()
    assert arrays.notes == (
        "target 'target': regression, since it holds 214 different numbers, more than 22",
    )


def test_categories_become_features_as_pandas_makes_them(tmp_path):
    frame = pandas.DataFrame(
        {"n": [1.5, 2, 3, 4], "city": ["Rom", "Ulm", "Rom", "Bad, Ems"], "flag": [True, False, True, True]}
    )
    expected = pandas.get_dummies(frame, columns=["city"], dtype=float).assign(flag=[1.0, 0, 1, 1])
    frame["y"] = [0, 1, 0, 1]
    frame.to_parquet(tmp_path / "a.parquet")
    arrays = table(path=str(tmp_path / "a.parquet"))
    order = ["n", "city_Bad, Ems", "city_Rom", "city_Ulm", "flag"]
    np.testing.assert_array_equal(arrays.x, expected[order].to_numpy(dtype=float))
    assert arrays.notes[1] == "columns of text as categories, one feature each: city (3)"
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert table(path=str(tmp_path / "a.csv")).x.shape == (4, 6)  # there a truth value is text


@pytest.mark.parametrize("target, features", [("a", 2 + 1), ("b", 2 + 1), ("c", 2), (None, 2)])
def test_the_target_is_a_column_of_any_place(target, features, tmp_path):
    arrays = table(path=written(tmp_path, rows(60)), target=target)
    assert arrays.x.shape == (60, features)
    assert arrays.classes == (2 if target in ("c", None) else 0)


def test_columns_can_be_left_out(tmp_path):
    path = written(tmp_path, "id,a,y\nx1,,0\nx2,,1\n", "b.csv")
    assert table(path=written(tmp_path, rows(9)), drop=["a"]).x[:, 0].tolist() == [n / 2 for n in range(9)]
    assert refusal(path, drop=["A"]) == f"data.drop=A: no column of data.path={path}; there is id, a, y"
    assert "no column besides the target" in refusal(path, drop=["id", "a"])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n\n",
        lambda text: text.replace(b",", b" , "),
        lambda text: text.replace(b"a,b,c", b'"a","b","c"'),
        lambda text: text.replace(b",p", b',"p"'),
    ],
    ids=["BOM", "CRLF", "no last newline", "blank lines", "spaces", "quoted header", "quotes"],
)
def test_forms_of_csv(change, tmp_path):
    plain = table(path=written(tmp_path, rows(30)))
    other = table(path=written(tmp_path, change(rows(30).encode())), target="c")
    assert np.array_equal(plain.x, other.x) and np.array_equal(plain.y, other.y)
    assert plain.notes == other.notes


def test_commas_and_newlines_in_quotes_belong_to_the_cell(tmp_path):
    arrays = table(path=written(tmp_path, 'a,"b, c"\n1,"x, y"\n2,"x\ny"\n3,"say ""x"""\n'))
    assert arrays.labels == ('say "x"', "x\ny", "x, y")
    assert arrays.notes[0] == (
        "target 'b, c': 3 classes, since it holds text: 0 = say \"x\", 1 = x y, 2 = x, y"
    )


def test_other_delimiters(tmp_path):
    plain = table(path=written(tmp_path, rows(30)))
    path = written(tmp_path, rows(30).replace(",", ";"))
    assert np.array_equal(table(path=path, delimiter=";").x, plain.x)
    assert np.array_equal(table(path=path, delimiter="semicolon").x, plain.x)
    assert refusal(path).endswith("has only one column, 'a;b;c'; set data.delimiter=semicolon")
    assert refusal(path, delimiter=";;") == (
        "data.delimiter=;;: must be one character other than a quote, or one of comma, semicolon, tab, "
        "space, pipe"
    )


def test_a_constant_column_is_fine(tmp_path):
    arrays = table(path=written(tmp_path, "a,b,y\n" + "1,3.5,u\n2,3.5,v\n" * 10))
    assert not split(arrays, batch_size=4).train.x[:, 1].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; the first row must have the names of the columns"),
        ("\n\n", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("a,,b\n0,1,2\n", "column 2 has no name; give it one"),
        ("5.1,3.5,0\n4.9,3.0,1\n", "the first row holds numbers only (5.1, 3.5, 0, ...); it must have the"),
        ("a,b\n1,2\n3\n", "row 3 has 1 cells, the header 2"),
        ("a,b\n1,2\n1,2,3\n", "row 3 has 3 cells, the header 2"),
        ('a,b\n1,"2\n', "line 2: unexpected end of data"),
        (
            "a,b,y\n1,,0\n,,1\nNA,2,1\n",
            "of 3 rows values are missing in column a (2), b (2); data.missing=drop",
        ),
        ("a,y\n1,p\n2,\n", "of 2 rows values are missing in column y (1), the target; data.missing=drop"),
        ("a,y\ninf,p\n2,q\n", "values that are not finite in column a (1); correct them"),
        (
            "a,y\n1,p\n2,q\n?,q\n",
            "column 'a': 1 of 3 values are not numbers, such as '?'",
        ),
        ("a,y\n1,p\n2,p\n", "target 'y': must hold two values or more, and holds p only"),
        (b"a,y\n\xff,1\n", "must be UTF-8"),
        ("id,y\n" + "".join(f"n{n},{n % 2}\n" for n in range(101)), "column 'id' holds 101 different texts"),
        ("a,y\n" + "".join(f"{n},n{n}\n" for n in range(50)), "target 'y': holds 50 different texts in 50"),
    ],
)
def test_a_bad_table_is_refused(text, message, tmp_path):
    path = written(tmp_path, text)
    told = refusal(path)
    assert message in told
    assert told.startswith((f"data.path={path}: ", "target 'y': "))


def test_a_header_of_the_numbers_of_columns_is_one(tmp_path):
    assert table(path=written(tmp_path, "0,1,2\n" + "5,6,7\n8,9,10\n" * 20)).x.shape == (40, 2)


def test_what_is_asked_for_must_be_there(tmp_path, monkeypatch):
    path = written(tmp_path, rows(30, "width,height,kind"))
    assert refusal(path, target="hight") == (
        f"data.target=hight: no column of data.path={path}; did you mean data.target=height?"
    )
    monkeypatch.chdir(tmp_path)
    assert refusal("b.csv") == f"data.path=b.csv: no such file, seen from {tmp_path}"
    assert table(path="a.csv").name == "a.csv"
    assert "must end in .csv, .tsv, .parquet or .npz" in refusal(written(tmp_path, "", "a.txt"))


# --- what a target is


def found(values, task: str = "auto"):
    return find_targets("y", np.array(values), task)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["a", "b"] * 20, 2),
        ([True, False] * 20, 2),
        ([0.0, 1.0] * 20, 2),
        (list(range(20)) * 2, 20),
        (list(range(21)), 0),
        (list(range(50)) * 20, 50),
        (list(range(51)) * 19, 0),
        ([0.5, 1.0] * 20, 0),
        ([-1, 1] * 20, 2),
    ],
)
def test_classes_and_real_numbers_are_told_apart(values, classes):
    targets = found(values)
    assert targets.classes == classes
    assert targets.y.dtype == (np.int64 if classes else np.float64)


def test_labels_are_numbered_in_sorted_order_and_told():
    assert found([10, 2, 2, 10, 7]).y.tolist() == [2, 0, 0, 2, 1]
    assert found([10, 2, 2, 10, 7]).note == (
        "y: 3 classes, since it holds few different whole numbers: 0 = 2, 1 = 7, 2 = 10"
    )
    assert found([1.0, 0.0, 2.0]).note.endswith("whole numbers: as they are")
    assert found([True, False]).note.endswith("it holds truth values: 0 = False, 1 = True")
    assert found([f"{n:02}" for n in range(12)]).note.endswith("9 = 09, ...")
    assert found([0.25, 3.0]).note == "y: regression, since it holds numbers that are not whole, such as 0.25"


def test_the_task_can_be_said():
    assert found([0, 1, 0, 1], "regression").note == "y: regression, as data.task says"
    assert found([0, 1, 0, 1], "regression").y.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert found([0.5, 1.5, 0.5], "classification").y.tolist() == [0, 1, 0]
    assert found([str(n) for n in range(99)], "classification").classes == 99
    with pytest.raises(ValueError, match=r"data\.task=regression: y must hold numbers, .* such as a"):
        found(["a", "b"], "regression")


# --- npz and parquet


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2))}, "data.target=y: no array of"),
        ({"y": np.arange(4)}, "must have the features as array 'x'; there are none"),
        ({"y": np.arange(4), "a": np.ones(4), "b": np.ones(4)}, "there are a, b"),
        ({"x": np.zeros((4, 2)), "y": np.arange(5)}, "found float64 (4, 2) and int64 (5,)"),
        ({"x": np.zeros(4), "y": np.arange(4)}, "found float64 (4,)"),
        ({"x": np.zeros((4, 2), complex), "y": np.arange(4)}, "found complex128"),
        (
            {"x": np.array([[1, np.nan]] * 4), "y": np.arange(4)},
            "4 of the 8 features are missing or not finite",
        ),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, np.inf, 2])}, "target 'y': 1 of 4 values are missing"),
        (
            {"x": np.zeros((4, 2)), "y": np.array(["a", "", "b", "b"])},
            "target 'y': 1 of 4 values are missing",
        ),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "target 'y': has no values"),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, 2, print])}, "cannot be read as arrays"),
    ],
)
def test_bad_arrays_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    assert message in refusal(str(tmp_path / "a.npz"))


def test_arrays_keep_their_shape_and_names(tmp_path):
    x = np.arange(48, dtype=np.uint8).reshape(12, 1, 2, 2)
    np.savez(tmp_path / "a.npz", images=x, label=np.arange(12) % 3)
    arrays = table(path=str(tmp_path / "a.npz"), target="label")
    assert arrays.x.dtype == np.uint8 and np.array_equal(arrays.x, x) and arrays.classes == 3


def test_garbage_is_refused(tmp_path):
    for name in ("a.npz", "a.parquet"):
        assert "cannot be read" in refusal(written(tmp_path, b"garbage", name))
    assert "data.drop: must be left as it is" in refusal(written(tmp_path, b"", "a.npz"), drop=["a"])


def test_parquet_says_what_is_wrong(tmp_path):
    path = str(tmp_path / "a.parquet")
    pandas.DataFrame({"a": [1.0, None], "b": ["x", None], "c": pandas.to_datetime([0, 1])}).to_parquet(path)
    told = "column 'c': must hold numbers, text or truth values, not timestamp[ns]; "
    assert told + "it is the target: choose another column by data.target" in refusal(path)
    assert told + "leave it out by 'data.drop=[c]'" in refusal(path, target="a")
    told = refusal(path, drop=["c"])
    assert "of 2 rows values are missing in column a (1), b (1), the target; " in told


def test_folders_add_no_columns(tmp_path):
    (tmp_path / "year=2020").mkdir()
    path = tmp_path / "year=2020" / "a.parquet"
    pandas.DataFrame({"a": [1.0, 2, 3], "y": [0, 1, 0]}).to_parquet(path)
    assert table(path=str(path)).x.tolist() == [[1], [2], [3]]


def test_a_table_needs_no_pandas_and_no_scikit_learn(tmp_path, monkeypatch):
    for library in ("pandas", "sklearn"):
        monkeypatch.setitem(sys.modules, library, None)
    assert len(table(path=written(tmp_path, rows(30))).y) == 30


def test_the_fingerprint_covers_the_content_and_not_the_path(tmp_path):
    sums = [
        split(table(path=written(tmp_path, rows(60).replace("5,2.5", change), name)), batch_size=4).sha256
        for name, change in (("a.csv", "5,2.5"), ("b.csv", "5,2.5"), ("a.csv", "5,2.6"))
    ]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "whole numbers"])
def test_text_of_parquet_is_the_same_in_any_number_of_row_groups(kind, tmp_path):
    words = [f" {'abcd'[n % 4]}{n % 3}" for n in range(60)]
    column = pyarrow.array(words, pyarrow.large_string() if kind == "large_string" else pyarrow.string())
    if kind == "dictionary":
        column = column.dictionary_encode()
    if kind == "whole numbers":
        column = pyarrow.array([n % 7 for n in range(60)]).dictionary_encode()
    rows = pyarrow.table({"word": column, "a.b": [n / 2 for n in range(60)], "y": [n % 2 for n in range(60)]})
    found = []
    for size in (1, 7, 60):
        parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=size)
        read = table(path=str(tmp_path / "a.parquet"))
        coded = (
            "categories of numbers, taken as numbers: word; 'data.categories=[word]' makes them categories"
        )
        assert (coded in read.notes) == (kind == "whole numbers")
        found.append(read.x)
    frame = pandas.DataFrame({"word": [word.strip() for word in words], "a.b": [n / 2 for n in range(60)]})
    expected = pandas.get_dummies(frame, columns=["word"], dtype=float)
    expected = expected[[*sorted(set(expected) - {"a.b"}), "a.b"]].to_numpy()
    if kind == "whole numbers":
        expected = np.array([[n % 7, n / 2] for n in range(60)])
    for x in found:
        np.testing.assert_array_equal(x, expected)
