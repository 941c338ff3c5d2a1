"""Tables whose cells are missing, by a code or in the column of parts; labels of several files."""

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from sweepwise.data.table import table


def written(folder, name, columns):
    parquet.write_table(pyarrow.table(columns), folder / name)
    return str(folder / name)


def test_rows_that_name_no_part_are_refused_or_left_out_but_in_no_part(tmp_path):
    path = tmp_path / "t.csv"
    cells = ["train", "", "test", "val"] * 20
    path.write_text("a,part,y\n" + "".join(f"{i},{cell},{i % 2}\n" for i, cell in enumerate(cells)))
    for missing in ("refuse", "median", "most_frequent", "indicator"):
        with pytest.raises(
            ValueError, match=r"^data\.part=part: 20 of 80 rows name no part; name one in each"
        ):
            table(path=str(path), part="part", missing=missing)
    arrays = table(path=str(path), part="part", missing="drop")
    assert arrays.parts.tolist() == [0, 2, 1] * 20 and "20 of 80 rows are left out" in " ".join(arrays.notes)


@pytest.mark.parametrize("offset", [0, 1234567890123456789])
def test_labels_of_several_files_are_exact_whatever_their_type(tmp_path, offset):
    labels = [offset + extra for extra in (0, 1, 600, 601)] * 5
    paths = [
        written(tmp_path, f"{kind}.parquet", {"x": np.arange(20.0), "y": np.array(labels, kind)})
        for kind in (np.int64, np.uint64)
    ]
    arrays = table(path=paths[0], validation_path=paths[1], task="classification")
    assert arrays.classes == 4 and arrays.y.tolist() == [0, 1, 2, 3] * 10


def test_large_whole_numbers_beside_real_ones_of_another_file_are_refused(tmp_path):
    whole = written(tmp_path, "whole.parquet", {"x": np.arange(9.0), "y": 2**53 + 1 + np.arange(9)})
    real = written(tmp_path, "real.parquet", {"x": np.arange(9.0), "y": np.arange(9) + 0.5})
    with pytest.raises(
        ValueError, match="whole numbers beyond 2\\^53 in one file and real numbers in another"
    ):
        table(path=whole, validation_path=real)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("code", ["-999", "-999.0", "-9.99e2"])
def test_a_number_that_stands_for_a_missing_value_is_one_however_it_is_written(tmp_path, ending, code):
    values = [-999.0, 1.0, 2.5] * 10
    if ending == "csv":
        path = tmp_path / "t.csv"
        path.write_text("d,y\n" + "".join(f"{value},{i % 2}\n" for i, value in enumerate(values)))
    else:
        path = written(tmp_path, "t.parquet", {"d": values, "y": [i % 2 for i in range(30)]})
    with pytest.raises(ValueError, match=r"values are missing in column d \(10\)"):
        table(path=str(path), missing_values=[code])
    assert len(table(path=str(path), missing_values=[code], missing="drop").x) == 20


def test_a_target_that_stands_for_a_missing_value_is_missing(tmp_path):
    path = written(tmp_path, "t.parquet", {"d": np.arange(30.0), "y": [-1, 0, 1] * 10})
    arrays = table(path=path, missing_values=["-1"], missing="drop")
    assert arrays.classes == 2 and len(arrays.x) == 20


def test_a_large_whole_target_that_stands_for_a_missing_value_is_that_one_alone(tmp_path):
    path = written(tmp_path, "t.parquet", {"d": np.arange(30.0), "y": [2**53, 2**53 + 1, 2**53 + 2] * 10})
    arrays = table(
        path=path, missing_values=[str(2**53 + 1), "nan", "inf"], missing="drop", task="classification"
    )
    assert arrays.classes == 2 and len(arrays.x) == 20


@pytest.mark.parametrize("missing", ["refuse", "drop", "median", "most_frequent", "indicator"])
def test_a_column_without_any_value_can_only_be_left_out(tmp_path, missing):
    path = tmp_path / "t.csv"
    path.write_text("a,d,y\n" + "".join(f"{i},,{i % 2}\n" for i in range(30)))
    with pytest.raises(ValueError, match=r"no value in column d; leave it out by 'data\.drop=\[d\]'$"):
        table(path=str(path), missing=missing)
    assert table(path=str(path), missing=missing, drop=["d"]).x.shape == (30, 1)
