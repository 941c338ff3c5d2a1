#!/bin/sh
# pyarrow 26.0.1: the csv reader takes a column of codes such as 0x10 for whole numbers, so that 0x10 and 16 are one
# value and a label loses its spelling. pandas 3.1.1 with its own parser and numpy's float() keep it as text or refuse it.
# Seen: int64 [16, 16, 255] from the cells 0x10, 16, 0xFF. Remedy: ask for the column as text (column_types).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import io

import pandas
import pyarrow
from pyarrow import csv

cells = b"code\n0x10\n16\n0xFF\n"
column = csv.read_csv(io.BytesIO(cells)).column("code")
print(pyarrow.__version__, column.type, column.to_pylist())
assert (str(column.type), column.to_pylist()) == ("int64", [16, 16, 255])
as_text = csv.ConvertOptions(column_types={"code": pyarrow.string()})
assert csv.read_csv(io.BytesIO(cells), convert_options=as_text).column("code").to_pylist() == ["0x10", "16", "0xFF"]
own = pandas.read_csv(io.BytesIO(cells))["code"]
print(pandas.__version__, own.dtype, own.tolist())
assert own.tolist() == ["0x10", "16", "0xFF"]
try:
    float("0x10")
except ValueError:
    print("float() refuses it")
else:
    raise AssertionError
PYTHON
