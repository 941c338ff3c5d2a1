#!/bin/sh
# pandas 3.1.1 with pyarrow 26.0.1: a categorical column of whole numbers that is written by to_parquet comes back from
# read_parquet, and from pyarrow, as int64, one of text as a category. So a column of class codes that was marked as
# categories becomes a number again on the way through a file; only the pandas entry of the file's metadata still says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pandas
import pyarrow
from pyarrow import parquet

frame = pandas.DataFrame({"zone": pandas.Categorical([3, 7, 3]), "kind": pandas.Categorical(["a", "b", "a"])})
frame.to_parquet("t.parquet")
back = pandas.read_parquet("t.parquet")
print(pandas.__version__, pyarrow.__version__, dict(back.dtypes.astype(str)))
print(parquet.read_schema("t.parquet").field("zone").type, parquet.read_schema("t.parquet").field("kind").type)
assert dict(back.dtypes.astype(str)) == {"zone": "int64", "kind": "category"}
kinds = {column["name"]: column["pandas_type"] for column in parquet.read_schema("t.parquet").pandas_metadata["columns"]}
print(kinds)
assert kinds["zone"] == "categorical"
PYTHON
