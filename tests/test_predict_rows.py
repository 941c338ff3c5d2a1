"""New rows in every form are prepared as `split` has prepared the same rows of its own."""

import json
import shutil
import warnings

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from pyarrow import parquet

from sweepwise import Arrays, split
from sweepwise.data.preparation import Preparation
from sweepwise.data.table import table

DRAW = np.random.default_rng(1)
ROWS = 40

pytestmark = pytest.mark.usefixtures("empty_folder")


def made() -> pandas.DataFrame:
    """A table with numbers, whole numbers, truth values, text, codes with a zero in front, and gaps."""
    frame = pandas.DataFrame(
        {
            "weight": DRAW.normal(20, 5, ROWS).round(3),
            "legs": DRAW.integers(0, 9, ROWS),
            "kind": DRAW.choice(["cat", "dog, big", 'say "moo"'], ROWS),
            "code": DRAW.choice(["01", "2", "30"], ROWS),
            "tame": DRAW.random(ROWS) < 0.5,
            "y": DRAW.choice(["a", "b"], ROWS),
        }
    )
    frame.loc[[1, 7], "weight"] = np.nan
    frame.loc[[2, 9], "kind"] = None
    return frame


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The table, its file, its preparation, and the inputs that `split` has made of its rows in order."""
    frame, path = made(), tmp_path_factory.mktemp("once") / "a.csv"
    frame.to_csv(path, index=False)
    arrays = table(path=str(path), missing="indicator", categories=["code"])
    data = split(arrays, batch_size=8, split_order="stored")
    return frame, path, data.preparation, torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()


@pytest.fixture
def known(once, empty_folder):
    """The same, with the file as a.csv in the folder of the test."""
    frame, path, preparation, expected = once
    shutil.copy(path, "a.csv")
    return frame.copy(), preparation, expected.copy()


def forms(frame: pandas.DataFrame):
    """The same rows in other forms, by a name."""
    plain = frame.astype(object).where(frame.notna(), None)
    features = plain.drop(columns="y")
    yield "frame", frame
    yield "objects", plain
    yield (
        "other order and more",
        frame.assign(more="x")[["y", "tame", "more", "code", "legs", "kind", "weight"]],
    )
    yield "spaces around names", frame.rename(columns={"weight": " weight "})
    yield "without the target", frame.drop(columns="y")
    yield "pandas' own types", frame.convert_dtypes()
    yield "pandas' categories", frame.astype({"kind": "category", "code": "category"})
    yield "another index", frame.set_index(frame.index[::-1] + 5)
    yield "lists", {name: list(plain[name]) for name in plain}
    yield "tuples of numpy", {name: tuple(frame[name].to_numpy()) for name in frame}
    yield "dictionaries", plain.to_dict("records")
    yield "rows by place", features.to_numpy().tolist()
    yield "array of objects", features.to_numpy()
    yield "numbers as text", frame.assign(weight=[None if w is None else f" {w} " for w in plain.weight])
    yield "codes as numbers", frame.assign(code=frame.code.astype(int))
    yield "codes as real numbers", frame.assign(code=frame.code.astype(float))
    arrow = pyarrow.Table.from_pandas(frame)
    yield "pyarrow", arrow
    yield "a batch of pyarrow", arrow.to_batches()[0]
    yield "pyarrow's dictionaries", arrow.set_column(2, "kind", arrow.column("kind").dictionary_encode())
    yield "tensors", {**{n: list(plain[n]) for n in plain}, "legs": torch.tensor(frame.legs.to_numpy())}


FORMS = [name for name, _ in forms(made())]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_rows_is_prepared_alike(name, known):
    frame, preparation, expected = known
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(preparation(dict(forms(frame))[name]), expected)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_are_prepared_alike(ending, known):
    frame, preparation, expected = known
    other = frame.drop(columns="y").assign(free=[f"text {n}\nmore" for n in range(ROWS)])[
        ["free", "tame", "kind", "weight", "code", "legs"]
    ]
    path = f"new.{ending}"
    if ending == "parquet":
        other.to_parquet(path)
    else:
        other.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    assert np.array_equal(preparation(path), expected)


def test_the_file_of_the_run_itself(known):
    _, preparation, expected = known
    assert np.array_equal(preparation("a.csv"), expected)


def test_a_csv_file_is_read_as_that_of_the_run_was():
    frame = made().drop(columns="tame").fillna({"weight": -9.5, "kind": "?"})
    options = {"delimiter": "semicolon", "decimal": "comma", "missing_values": ["-9,5", "?"]}
    frame.to_csv("a.csv", index=False, sep=";", decimal=",")
    data = split(table(path="a.csv", missing="median", **options), batch_size=8, split_order="stored")
    expected = torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()
    assert np.array_equal(data.preparation("a.csv"), expected)
    frame.drop(columns="y").sample(frac=1, axis=1, random_state=0).to_csv(
        "b.csv", index=False, sep=";", decimal=","
    )
    assert np.array_equal(data.preparation("b.csv"), expected)


def test_codes_for_missing_numbers_are_missing_in_every_form():
    frame = made().drop(columns=["kind", "code", "tame"]).fillna({"weight": -999})
    frame.to_csv("a.csv", index=False)
    read = table(path="a.csv", missing="median", missing_values=["-999"])
    data = split(read, batch_size=8, split_order="stored")
    expected = torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()
    for rows in (frame, frame.to_dict("list"), "a.csv", frame[["weight", "legs"]].to_numpy()):
        assert np.array_equal(data.preparation(rows), expected)


def test_one_row_and_no_row(known):
    frame, preparation, expected = known
    first = frame.drop(columns="y").iloc[0]
    assert np.array_equal(preparation([first.to_dict()]), expected[:1])
    assert np.array_equal(preparation([list(first)]), expected[:1])
    assert np.array_equal(preparation(frame.iloc[:1]), expected[:1])
    assert preparation(frame.iloc[:0]).shape == preparation([]).shape == (0, expected.shape[1])
    frame.iloc[:1].to_csv("one.csv", index=False)
    assert np.array_equal(preparation("one.csv"), expected[:1])
    frame.iloc[:0].to_csv("none.csv", index=False)
    assert preparation("none.csv").shape == (0, expected.shape[1])


def test_a_table_of_one_column():
    pandas.DataFrame({"x": np.arange(30) / 7, "y": np.arange(30) % 2}).to_csv("a.csv", index=False)
    data = split(table(path="a.csv"), batch_size=8, split_order="stored")
    pandas.DataFrame({"x": np.arange(18) / 7}).to_csv("b.csv", index=False)
    assert np.array_equal(data.preparation("b.csv"), data.train.x.numpy())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.drop(columns="legs"), r"column 'legs': is absent; there is weight, kind, code, tame, y"),
        (lambda f: f.rename(columns={"legs": "leg"}), r"column 'legs': is absent; did you mean 'leg'\?"),
        (lambda f: f.drop(columns=["legs", "kind"]), r"column 'legs', 'kind': is absent; there is"),
        (lambda f: f.assign(legs="four"), r"column 'legs': must hold numbers, and holds 'four' in row 0"),
        (lambda f: f.assign(legs="1_0"), r"column 'legs': must hold numbers, and holds '1_0' in row 0"),
        (lambda f: f.assign(legs=pandas.Timestamp("2020-01-01")), r"column 'legs': must hold numbers"),
        (lambda f: f.assign(legs=1j), r"column 'legs': must hold numbers, and holds '1j'"),
        (lambda f: f.assign(legs=np.inf), r"column 'legs': has values that are not finite, or too large"),
        (lambda f: f.assign(legs=1e300), r"column 'legs': has values that are not finite, or too large"),
        (lambda f: {**f.to_dict("list"), "legs": 4}, r"column 'legs': must be a list of values, one a row"),
        (lambda f: {**f.to_dict("list"), "legs": "four"}, r"column 'legs': must be a list of values"),
        (lambda f: {**f.to_dict("list"), "legs": [1, 2]}, r"column 'legs': has 2 rows, and 'weight' has 40"),
        (lambda f: {**f.to_dict("list"), "legs": [[1]] * ROWS}, r"column 'legs': must have one value a row"),
        (lambda f: {**f.to_dict("list"), "legs": [[1], [1, 2]]}, r"column 'legs': must have one value a row"),
        (lambda f: f.to_numpy(), r"must have 5 columns \(weight, legs, .*\), and has 6; in a frame"),
        (
            lambda f: [1.5, 2, "cat", "2", True],
            r"must have the shape \(rows, 5\), and has \(5,\); one row is \[row\]",
        ),
        (lambda f: [[1.5, 2], [3]], r"must have the shape \(rows, 5\)"),
        (lambda f: 5, r"must have the shape"),
        (lambda f: None, r"must have the shape"),
        (lambda f: "nowhere.csv", r"nowhere\.csv: no such file, seen from"),
        (lambda f: ".", r"\.: must be a file, not a folder"),
        (lambda f: f.to_json("new.json") or "new.json", r"new\.json: must end in \.csv, \.tsv, \.parquet"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(change, told, known):
    frame, preparation, _ = known
    with pytest.raises(ValueError, match=told):
        preparation(change(frame))


def test_values_that_may_not_be_missing():
    made().dropna().to_csv("a.csv", index=False)
    preparation = split(table(path="a.csv"), batch_size=8).preparation
    with pytest.raises(ValueError, match=r"column 'weight': values are missing, .*data\.missing=refuse"):
        preparation(made())
    with pytest.raises(ValueError, match=r"column 'kind': values are missing"):
        preparation(made().fillna({"weight": 1}))


def test_unknown_categories_count_as_none_and_are_told(known):
    frame, preparation, expected = known
    with pytest.warns(
        UserWarning, match="column 'kind': 3 of 40 rows hold no category .*such as 'cow'"
    ) as told:
        found = preparation(frame.assign(kind=["cow", "cow", "gnu", *frame.kind[3:]]))
    assert told[0].filename == __file__
    assert len(told) == 1 and np.array_equal(found[3:], expected[3:])
    columns = slice(2, 5)
    zero = (-preparation.scaling.mean / preparation.scaling.std)[columns]
    np.testing.assert_allclose(found[:3, columns], np.tile(zero, (3, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "new.csv: is empty"),
        (b'weight,legs\n"1,2\n', r"new.csv: line \d+: unexpected end of data"),
        (b"weight,legs\n1,2,3\n", "new.csv: row 2 has 3 cells, the header 2"),
        (b"weight,weight\n1,2\n", "new.csv: two columns are called 'weight'"),
        (b"weight;legs;kind\n1;2;3\n", r"new.csv: has only one column, .*set delimiter=semicolon"),
        ("weight,legs\n1,2\n".encode("utf-16"), "new.csv: must be UTF-8, and is UTF-16"),
        (b"weight,legs\n1,\xff\n", "new.csv: must be UTF-8"),
        (b"1,2,3,4,5\n1,2,3,4,5\n", "new.csv: the first row holds numbers only"),
    ],
)
def test_files_that_cannot_be_read_are_refused(content, told, known, empty_folder):
    _, preparation, _ = known
    (empty_folder / "new.csv").write_bytes(content)
    with pytest.raises(ValueError, match=told.replace(".csv", r"\.csv")):
        preparation("new.csv")
    (empty_folder / "new.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"new\.parquet: cannot be read"):
        preparation("new.parquet")


def test_what_would_take_too_much_memory_is_refused(known, monkeypatch):
    frame, preparation, _ = known
    frame.to_parquet("a.parquet")
    monkeypatch.setattr("sweepwise.data.preparation.memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"40 rows would take 3,840 bytes, .*; take them in parts"):
        preparation(frame)
    monkeypatch.setattr("sweepwise.data.limits.memory", lambda: 1000)
    for file in ("a.csv", "a.parquet"):
        with pytest.raises(ValueError, match=rf"{file[:1]}\.{file[2:]}: its content would take"):
            preparation(file)


# --- sets without named columns


def numbers(shape=(7,)):
    x = DRAW.integers(0, 200, (ROWS, *shape)).astype(np.uint8)
    data = split(Arrays("own", x, np.arange(ROWS) % 2, 2), batch_size=8, split_order="stored")
    return x, data.preparation, torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()


def test_features_without_names():
    x, preparation, expected = numbers()
    frame = pandas.DataFrame(x)
    frame.to_csv("new.csv", index=False)
    parquet.write_table(pyarrow.table({f"c{n}": x[:, n] for n in range(7)}), "new.parquet")
    np.save("new.npy", x)
    np.savez("new.npz", x=x, y=np.arange(ROWS))
    for rows in (
        x,
        x.astype(float),
        x.tolist(),
        torch.from_numpy(x),
        frame,
        "new.csv",
        "new.parquet",
        "new.npy",
        "new.npz",
    ):
        assert np.array_equal(preparation(rows), expected)
    assert preparation([]).shape == (0, 7)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.zeros((3, 8)), r"must have the shape \(rows, 7\), and has \(3, 8\)"),
        (np.zeros(7), r"must have the shape \(rows, 7\), and has \(7,\); a single example is \[example\]"),
        (np.full((1, 7), np.nan), "7 of 7 values are missing or not finite"),
        ([["a"] * 7], "must hold numbers"),
        (np.zeros((2, 7), complex), r"must hold numbers \(not complex128\)"),
        (np.zeros((2, 7), "datetime64[s]"), r"must hold numbers \(not datetime64\[s\]\)"),
        ([[None] * 7], "missing or not finite|must hold numbers"),
        (
            {"a": [1.0]},
            "must be exactly 7 columns, as the features have no names",
        ),
        ([[1.0], [1.0, 2.0]], "must be an array of numbers"),
    ],
)
def test_rows_of_another_shape_are_refused(rows, told):
    _, preparation, _ = numbers()
    with pytest.raises(ValueError, match=told):
        preparation(rows)


@pytest.mark.parametrize(("channels", "stored"), [(None, (2, 5, 6)), ("last", (5, 6, 2)), ("none", (5, 6))])
def test_images_come_as_their_file_has_them(channels, stored):
    x = DRAW.integers(0, 200, (ROWS, *stored)).astype(np.uint8)
    np.savez("a.npz", x=x, y=np.arange(ROWS) % 2)
    data = split(table(path="a.npz", channels=channels), batch_size=8, split_order="stored")
    expected = torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()
    assert np.array_equal(data.preparation(x), expected)
    np.savez("b.npz", images=x)
    assert np.array_equal(data.preparation("b.npz"), expected)
    with pytest.raises(ValueError, match="a single example is"):
        data.preparation(x[0])
    with pytest.raises(ValueError, match=r"must be an array \(rows, "):
        data.preparation({"a": [1]})


def test_columns_of_an_npz_file_with_gaps_are_called_by_their_numbers():
    x = DRAW.normal(size=(ROWS, 3))
    x[3, 1] = np.nan
    np.savez("a.npz", x=x, y=np.arange(ROWS) % 2)
    data = split(table(path="a.npz", missing="median"), batch_size=8, split_order="stored")
    expected = torch.cat([data.train.x, data.validation.x, data.test.x]).numpy()
    for rows in (x, x.tolist(), "a.npz", pandas.DataFrame(x)):
        assert np.array_equal(data.preparation(rows), expected)


def test_what_is_kept_of_a_table_fits_together(known):
    _, preparation, expected = known
    fields = json.loads(json.dumps(preparation.fields()))
    assert np.array_equal(Preparation.of_fields(fields)("a.csv"), expected)
    columns = fields["columns"]
    broken = [
        {"shape": [3]},
        {"indicators": [9, 0]},
        {"columns": [columns[0] | {"fill": [1, 2]}, *columns[1:]]},
        {"columns": columns[:-1]},
    ]
    for change in broken:
        with pytest.raises(ValueError, match=r"shape|indicators|columns|broadcast"):
            Preparation.of_fields(fields | change)
