"""What the cells of a table become: indexes, numbers, labels; messages whose remedies work when pasted."""

import re
import shlex
from fractions import Fraction

import numpy as np
import pandas
import pyarrow
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pyarrow import parquet

from sweepwise.data import split
from sweepwise.data.cells import MISSING
from sweepwise.data.table import table
from sweepwise.errors import shell_override
from sweepwise.system.console import wrapped

PASTED = r"""'data\.\w+=(?:[^']|'"'"')*'|data\.\w+=[\w.\[\]]+"""
DRAW = np.random.default_rng(0)


def written(tmp_path, text: str | bytes, name: str = "a.csv") -> str:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def column(cells, name: str = "c") -> str:
    """A table of one feature of numbers that do not count, and a last column of these cells."""
    lines = [f"{DRAW.normal():.3f},{cell}" for cell in cells]
    return "\n".join([f"a,{name}", *lines]) + "\n"


def feature(cells, name: str = "c") -> str:
    """A table whose first column has these cells, and whose target is classes."""
    return "\n".join([f"{name},y", *(f"{cell},{n % 2}" for n, cell in enumerate(cells))]) + "\n"


def refusal(path: str, **options) -> str:
    with pytest.raises(ValueError) as caught:
        table(path=path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pasted(message: str) -> list[dict]:
    """The arguments that each override in a message sets, read as a shell and Hydra read them."""
    found = []
    for word in re.findall(PASTED, message.partition("; ")[2]):
        (argument,) = shlex.split(word)
        override = OverridesParser.create().parse_override(argument)
        value = OmegaConf.to_container(OmegaConf.create({"v": override.value()}), resolve=True)["v"]
        found.append({override.key_or_group.removeprefix("data."): value})
    return found


# --- indexes


@pytest.mark.parametrize("index", [None, "id", ["site", "day"]], ids=str)
def test_what_pandas_saves_as_an_index_is_left_out(index, tmp_path):
    frame = pandas.DataFrame(
        {"id": range(60), "site": range(60), "day": range(60), "a": DRAW.normal(size=60)}
    )
    frame = frame.assign(species=["x", "y", "z"] * 20).sort_values("species")
    frame = frame.set_index(index) if index else frame.drop(columns=["id", "site", "day"])
    frame.to_parquet(tmp_path / "a.parquet")
    arrays = table(path=str(tmp_path / "a.parquet"))
    expected = pandas.read_parquet(tmp_path / "a.parquet")
    assert [f.name for f in arrays.encoding.features] == list(expected.columns[:-1])
    np.testing.assert_array_equal(arrays.x, expected[expected.columns[:-1]].to_numpy())
    assert arrays.reading.target == "species" and arrays.classes == 3
    names = ", ".join([index] if isinstance(index, str) else index or ["__index_level_0__"])
    assert f"an index, left out: column {names}; pandas' reset_index makes it a column" in arrays.notes


def test_an_index_whose_metadata_another_program_has_lost_is_one_by_its_name(tmp_path):
    pandas.DataFrame({"a": DRAW.normal(size=9), "y": [0, 1, 2] * 3}).iloc[
        [2, 0, 1, 5, 4, 3, 6, 7, 8]
    ].to_parquet(tmp_path / "a.parquet")
    plain = parquet.read_table(tmp_path / "a.parquet").replace_schema_metadata(None)
    assert plain.column_names[-1] == "__index_level_0__"
    parquet.write_table(plain, tmp_path / "b.parquet")
    assert table(path=str(tmp_path / "b.parquet")).x.shape == (9, 1)


def test_an_index_can_be_the_target_if_that_is_said(tmp_path):
    frame = pandas.DataFrame({"a": DRAW.normal(size=60), "b": DRAW.normal(size=60)})
    frame.set_index(pandas.Index(["u", "v"] * 30, name="kind")).to_parquet(tmp_path / "a.parquet")
    arrays = table(path=str(tmp_path / "a.parquet"), target="kind")
    assert (arrays.classes, arrays.x.shape) == (2, (60, 2)) and len(arrays.notes) == 1


@pytest.mark.parametrize("first", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_a_nameless_column_of_a_csv_is_an_index(first, tmp_path):
    frame = pandas.DataFrame({"a": DRAW.normal(size=30), "y": [0, 1, 2] * 10})
    frame.to_csv(tmp_path / "a.csv", index_label=first or None)
    text = (tmp_path / "a.csv").read_text()
    assert text.startswith(f"{first},a,y")
    arrays = table(path=str(tmp_path / "a.csv"))
    np.testing.assert_array_equal(arrays.x[:, 0], frame.a)
    (note,) = arrays.notes[1:]
    assert note.startswith(f"an index, left out: column {first or 'without a name'};")


def test_a_range_that_pandas_does_not_store_gives_no_note(tmp_path):
    pandas.DataFrame({"a": DRAW.normal(size=9), "y": [0, 1, 2] * 3}).to_parquet(tmp_path / "a.parquet")
    assert len(table(path=str(tmp_path / "a.parquet")).notes) == 1


# --- numbers


@pytest.mark.parametrize(
    "cell", ["1_1", "0x10", "１", "1e", "--1", "1.2.3", "0b1", "1d5", "1 2", "True", "1,"]
)
def test_what_is_no_number_of_a_csv_stays_text(cell, tmp_path):
    cells = [cell, "11"] * 10
    arrays = table(path=written(tmp_path, feature([f'"{cell}"' for cell in cells])), categories=["c"])
    assert set(arrays.encoding.features[0].words) == {cell, "11"}
    found = table(path=written(tmp_path, column([f'"{cell}"' for cell in cells])), task="classification")
    assert set(found.labels) == {cell, "11"}


@pytest.mark.parametrize(
    "cell",
    ["1", "-1", "+1", "1.", ".5", "1e5", "1E-3", "+1.5e+3", " 2 ", "007", "-0", "1e-320", "0.1", "1e22"],
)
def test_what_is_a_number_of_a_csv_is_python_s_float(cell, tmp_path):
    for others in (["2", "3.5"], ["x"]):  # with text, the whole table is read another way
        text = "c,d,y\n" + "".join(f"{cell},{others[n % len(others)]},{n % 2}\n" for n in range(20))
        x = table(path=written(tmp_path, text)).x[:, 0]
        assert x.tobytes() == np.full(20, float(cell)).tobytes()


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=20))
def test_numbers_are_read_to_the_bit(numbers, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("csv"), feature([repr(number) for number in numbers]))
    assert table(path=path).x[:, 0].tobytes() == np.array(numbers).tobytes()


def test_a_column_that_turns_into_text_late_is_read_again(tmp_path):
    cells = [f"{n}.25" for n in range(200_000)]
    late = ["7" if n < 90_000 else "ab"[n % 2] for n in range(200_000)]
    lines = [f"{cell},{word},{n % 2}\n" for n, (cell, word) in enumerate(zip(cells, late, strict=True))]
    assert len("".join(lines[:90_000])) > 2**20  # which is looked at first
    arrays = table(path=written(tmp_path, "a,late,y\n" + "".join(lines)))
    assert arrays.x[:, 0].tolist() == [float(cell) for cell in cells]
    assert arrays.encoding.features[1].words == ("7", "a", "b")


@pytest.mark.parametrize("delimiter", ["tab", "\t", r"\t", None])
def test_tabs(delimiter, tmp_path):
    text = "a\tb\ty\n" + "1.5\t2\t0\n3\t4\t1\n" * 10
    name = "a.csv" if delimiter else "a.tsv"
    assert table(path=written(tmp_path, text, name), delimiter=delimiter).x[1].tolist() == [3, 4]
    if delimiter:
        (way,) = pasted(refusal(written(tmp_path, text)))
        assert table(path=written(tmp_path, text), **way).x[1].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["0,1", "-2,5", "3"], [0.1, -2.5, 3]),
        (["1,5e3", "2", ""], [1500, 2, None]),
        (["+1,25", "1,5"], [1.25, 1.5]),
    ],
)
@pytest.mark.parametrize("kind", ["feature", "target"])
def test_decimal_commas(cells, numbers, kind, tmp_path):
    cells, numbers = cells * 12, numbers * 12
    text = "\n".join(["c;d", *(f"{cell};{n * 3 % 11}" for n, cell in enumerate(cells))])
    path = written(tmp_path, text + "\n")
    options = {"delimiter": "semicolon", "target": "c" if kind == "target" else "d", "missing": "median"}
    told = refusal(path, **options)
    assert f"holds numbers with decimal commas, such as {cells[0]!r}; set data.decimal=comma" in told
    first, second = pasted(told)
    arrays = table(path=path, **options, **first)
    expected = pandas.read_csv(path, sep=";", decimal=",")
    read = arrays.x[:, 0] if kind == "feature" else arrays.y
    wanted = expected.c if kind == "feature" else expected.c.dropna()
    if kind == "feature" or not arrays.classes:
        np.testing.assert_array_equal(read, wanted)
    assert "c" in second["categories"]
    assert table(path=path, **options, **second).encoding is not None


def test_decimal_points_with_commas_asked_for_are_refused(tmp_path):
    path = written(tmp_path, "c;y\n" + "1.25;0\n2.5;1\n" * 9)
    told = refusal(path, delimiter="semicolon", decimal="comma")
    assert "holds numbers with decimal points, such as '1.25'; set data.decimal=point" in told
    assert refusal(path, decimal="dot") == "data.decimal=dot: must be point or comma"


@pytest.mark.parametrize("cell", ["1,234.5", "1'234", "12 345", "1.234,5"])
def test_separators_of_thousands_are_no_categories(cell, tmp_path):
    path = written(tmp_path, feature([f'"{cell}"', "5"] * 9))
    assert f"such as {cell!r}" in refusal(path)
    assert table(path=path, categories=["c"]).encoding.features[0].words == tuple(sorted([cell, "5"]))


# --- labels


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        [2**53, 2**53 + 1],
        [1234567890123456789, 1234567890123456790, -1234567890123456790],
        [2**63 - 1, 2**63 - 2],
        [2**64 - 1, 2**64 - 2, 2**63],
        [10**29 + 1, 10**29 + 2, 5],
    ],
    ids=["2^53", "ids", "int64", "uint64", "beyond"],
)
def test_whole_numbers_stay_different_labels(labels, name, tmp_path):
    values = labels * 12
    path = tmp_path / name
    if name == "a.csv":
        path.write_text(column(values))
    else:
        kind = pyarrow.decimal128(38) if max(labels) >= 2**64 else pyarrow.int64()
        kind = pyarrow.uint64() if 2**63 <= max(labels) < 2**64 else kind
        rows = {"a": DRAW.normal(size=len(values)), "c": pyarrow.array(values, kind)}
        parquet.write_table(pyarrow.table(rows), path)
    arrays = table(path=str(path))
    assert arrays.classes == len(labels)
    named = [str(arrays.labels[place]) for place in arrays.y]
    assert named == list(map(str, values))
    assert all(str(label) in arrays.notes[0] for label in labels)


@pytest.mark.parametrize(
    "labels", [["1", "01"], ["7", "007", "8"], ["1.1", "1.10", "1.2"], ["0.1", "0.10000000000000000001", "2"]]
)
def test_labels_that_are_spelled_differently_are_not_one_number(labels, tmp_path):
    path = written(tmp_path, column([*labels * 12, "3"]))
    arrays = table(path=path, task="classification")
    assert set(arrays.labels) == {*labels, "3"}
    assert [arrays.labels[place] for place in arrays.y][: len(labels)] == labels
    assert " would be the same number" in arrays.notes[0]


@pytest.mark.parametrize(
    "labels", [["1", "1.0", "2"], ["01", "02", "10"], ["+1", "1", "-1"], ["1e1", "10", "2"]]
)
def test_labels_that_are_numbers_stay_numbers(labels, tmp_path):
    arrays = table(path=written(tmp_path, column(labels * 12)))
    assert arrays.labels == tuple(sorted({float(label) for label in labels}))
    assert [Fraction(arrays.labels[place]) for place in arrays.y] == [Fraction(w) for w in labels * 12]


def test_large_codes_among_the_features_are_rounded_with_a_note(tmp_path):
    ids = [2**60 + n for n in range(40)]
    text = "id,a,y\n" + "".join(f"{number},{DRAW.normal()},{number % 2}\n" for number in ids)
    for path in (written(tmp_path, text), str(tmp_path / "a.parquet")):
        if path.endswith("parquet"):
            pandas.read_csv(tmp_path / "a.csv").to_parquet(path)
        arrays = table(path=path)
        (note,) = [note for note in arrays.notes if "beyond 2^53" in note]
        assert arrays.x[:, 0].tolist() == [float(number) for number in ids]
        assert pasted(note) == [{"drop": ["id"]}]
        assert table(path=path, drop=["id"]).x.shape == (40, 1)


# --- missing cells


def test_sodium_is_no_missing_value_and_what_is_one_can_be_said(tmp_path):
    path = written(tmp_path, feature(["K", "Na", "Cl", "NA"] * 5, "el"))
    assert "of 20 rows values are missing in column el (5)" in refusal(path)
    arrays = table(path=path, missing_values=[""])
    assert arrays.encoding.features[0].words == ("Cl", "K", "NA", "Na")
    assert "el (10)" in refusal(path, missing_values=["Na", "NA"])


@pytest.mark.parametrize("text", MISSING)
def test_every_text_that_stands_for_no_value(text, tmp_path):
    for cells in ([text, "1.5", "2"], [text, "u", "v"], [f" {text} ", "1", "2"]):
        assert "column c (4)" in refusal(written(tmp_path, feature(cells * 4)))


def test_a_text_among_numbers_can_be_named_as_missing(tmp_path):
    path = written(tmp_path, feature(["1", "2", "?", "4.5"] * 5))
    told = refusal(path)
    assert "5 of 20 values are not numbers, such as '?'" in told
    ways = pasted(told)
    assert [next(iter(way)) for way in ways] == ["drop", "categories", "missing_values"]
    arrays = table(path=path, missing="drop", **ways[2])
    assert arrays.x[:3, 0].tolist() == [1, 2, 4.5] and len(arrays.y) == 15
    assert table(path=path, **ways[1]).x.shape == (20, 4)


# --- columns that may be no features


def test_notes_on_columns_that_may_be_no_features(tmp_path):
    frame = pandas.DataFrame(
        {
            "row": range(1, 61),
            "shuffled": DRAW.permutation(60),
            "a": DRAW.normal(size=60),
            "same": 3.5,
            "word": "only",
            "day": [f"2024-01-{n % 5 + 1:02}" for n in range(60)],
            "name": [f"n{n}" for n in range(60)],
            "y": [0, 1, 2] * 20,
        }
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    notes = "\n".join(table(path=str(tmp_path / "a.csv")).notes)
    assert "columns of text as categories, one feature each: word (1), day (5), name (60)" in notes
    assert "dates as categories, each a word without an order: day; " in notes
    assert "the same value in all rows, of no use: same, word" in notes
    assert "another value in each row, as a number or name of it: row, shuffled, name; " in notes
    drops = [way["drop"] for way in pasted(notes) if "drop" in way]
    assert ["day"] in drops and ["row", "shuffled", "name"] in drops


def test_numbers_with_signs_are_named(tmp_path):
    frame = pandas.DataFrame(
        {"a": ["5 %", "12 %", "7.5 %"] * 9, "b": ["$5", "$6", "$7"] * 9, "c": ["5a", "6a", "x"] * 9}
    )
    frame.assign(y=[0, 1, 2] * 9).to_csv(tmp_path / "a.csv", index=False)
    (note,) = [note for note in table(path=str(tmp_path / "a.csv")).notes if "signs" in note]
    assert note.endswith("numbers without their signs: a, b")


def test_numbers_that_a_file_calls_categories_are_named(tmp_path):
    frame = pandas.DataFrame({"grade": pandas.Categorical([3, 1, 2] * 20), "a": DRAW.normal(size=60)})
    frame.assign(y=[0, 1, 2] * 20).to_parquet(tmp_path / "a.parquet")
    arrays = table(path=str(tmp_path / "a.parquet"))
    assert arrays.x[:3, 0].tolist() == [3, 1, 2]
    (way,) = pasted(arrays.notes[1])
    assert way == {"categories": ["grade"]}
    assert table(path=str(tmp_path / "a.parquet"), **way).x[:3, :3].tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 1, 0],
    ]


def test_a_target_that_numbers_the_rows_is_named(tmp_path):
    frame = pandas.DataFrame({"a": DRAW.normal(size=60), "id": range(60)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "target 'id' is another number in each row" in table(path=str(tmp_path / "a.csv")).notes[1]


def test_codes_become_categories_when_asked_as_pandas_makes_them(tmp_path):
    frame = pandas.DataFrame(
        {"code": DRAW.integers(0, 4, 60), "a": DRAW.normal(size=60), "y": [0, 1, 2] * 20}
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    expected = pandas.get_dummies(frame[["code", "a"]], columns=["code"], dtype=float)
    expected = expected[[*(f"code_{n}" for n in range(4)), "a"]].to_numpy()
    for name in ("a.csv", "a.parquet"):
        np.testing.assert_array_equal(table(path=str(tmp_path / name), categories=["code"]).x, expected)


def test_dates_beyond_the_number_of_categories_are_called_so(tmp_path):
    days = pandas.date_range("2024-01-01", periods=120).strftime("%Y-%m-%d")
    told = refusal(written(tmp_path, feature(days, "day")))
    assert "column 'day' holds 120 different dates" in told and pasted(told) == [{"drop": ["day"]}]


# --- remedies


@given(word=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_an_override_can_be_pasted_whatever_it_holds(word):
    for value in (word, [word, "b"]):
        (argument,) = shlex.split(shell_override("data.drop", value))
        override = OverridesParser.create().parse_override(argument)
        assert OmegaConf.to_container(OmegaConf.create({"v": override.value()}), resolve=True)["v"] == value


@pytest.mark.parametrize(
    "name",
    ["weight (kg)", "1", "it's", 'say "x"', "a,b", "${b}", "a=b", "null", "[x]", "c\\", "ä", "x: y", "1e5"],
)
def test_the_remedies_of_messages_work_for_any_name_of_a_column(name, tmp_path):
    words = [f"w{n}" for n in range(120)]
    frame = pandas.DataFrame({name: words, "a": DRAW.normal(size=120), "y": [0, 1] * 60})
    frame.to_csv(tmp_path / "a.csv", index=False)
    path = str(tmp_path / "a.csv")
    (way,) = pasted(refusal(path))
    assert table(path=path, **way).x.shape == (120, 1)
    (way,) = pasted(refusal(path, target=f"{name}_"))
    assert way == {"target": name}
    (way,) = pasted(refusal(path, drop=[f"{name}_"]))
    assert way == {"drop": [name]}


def test_a_remedy_is_on_one_line_of_a_note():
    way = shell_override("data.drop", ["weight in a long name (kg)", "it's another one"])
    for before in range(40, 70):
        assert way in wrapped("note", f"{'x' * before} leave it out by {way} or not")


def test_keys_that_no_reader_looks_at_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=DRAW.normal(size=(9, 2)), y=np.arange(9) % 2)
    pandas.DataFrame({"a": DRAW.normal(size=9), "y": [0, 1, 2] * 3}).to_parquet(tmp_path / "a.parquet")
    path = written(tmp_path, feature("123" * 3))
    for name, options in (
        ("a.npz", {"drop": ["a"]}),
        ("a.npz", {"categories": ["a"]}),
        ("a.npz", {"missing_values": ["?"]}),
        ("a.npz", {"decimal": "comma"}),
        ("a.parquet", {"delimiter": "tab"}),
        ("a.parquet", {"channels": "last"}),
        (path, {"channels": "last"}),
    ):
        (key,) = options
        assert refusal(str(tmp_path / name), **options).startswith(
            f"data.{key}: must be left as it is, as data."
        )


def test_a_name_that_is_not_there_names_few_of_many(tmp_path):
    frame = pandas.DataFrame({f"c{n}": [n, 1, 2] for n in range(50)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert refusal(str(tmp_path / "a.csv"), drop=["zzz"]).endswith("c8, c9 and 40 more")


def test_the_split_is_that_of_before(tmp_path):
    """The sha256 of a table with every kind of column, as the first version had it."""
    lines = [f"{n / 7!r},{'pq'[n % 2]}{n % 3},{n % 2 == 0},{n},{n % 3}" for n in range(90)]
    path = written(tmp_path, "\n".join(["a,b,flag,whole,y", *lines]) + "\n")
    data = split(table(path=path), batch_size=16)
    assert data.sha256 == "98a1cbebd30f54c8a975aec70e0c7193eb9bfc50e2672b9ad6dd53c34413158e"
