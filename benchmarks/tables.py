"""Times the reading of csv files into features beside pyarrow's reader alone, in turn, on one thread.

    python benchmarks/tables.py --cpu 1             about 2 minutes

Three files are written first: 1,300 rows of 5,000 columns (66 MB), 1,000,000 rows of 20 (190 MB), and as many
of which 5 columns hold words, 3 to 7 different ones each (170 MB). `table` ends with the matrix of features,
checked and with its notes; pyarrow with its own columns.
"""

import argparse
import tempfile
from pathlib import Path
from time import process_time

import numpy as np
from interleave import Sample, Worker, interleave, one_thread, table

SHAPES = {"wide": (1_300, 5_000, 0), "long": (1_000_000, 20, 0), "words": (1_000_000, 20, 5)}


def write(path: Path, rows: int, columns: int, texts: int) -> None:
    """A csv file of normal numbers, of words in the last columns, and a target of two classes."""
    draw = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join([*(f"c{place}" for place in range(columns)), "y"]) + "\n")
        for first in range(0, rows, 1000):
            numbers = draw.normal(size=(min(1000, rows - first), columns))
            for place in range(texts):
                numbers[:, columns - 1 - place] = draw.integers(0, 3 + place, len(numbers))
            forms = ["%.6f"] * (columns - texts) + ["word%d"] * texts + ["%d"]
            np.savetxt(file, np.column_stack([numbers, np.arange(len(numbers)) % 2]), forms, ",")


def ours(path: str) -> Sample:
    """Seconds of CPU to read a file into features."""
    from sweepwise.data.table import table

    began = process_time()
    arrays = table(path=path)
    return Sample(process_time() - began, " x ".join(map(str, arrays.x.shape)))


def pyarrow(path: str) -> Sample:
    """Seconds of CPU to read a file by pyarrow as it comes."""
    from pyarrow import csv

    began = process_time()
    rows = csv.read_csv(path)
    return Sample(process_time() - began, " x ".join(map(str, rows.shape)))


def main() -> None:
    """Writes the files, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", type=int, default=None, help="pin everything to one processor (Linux)")
    arguments = parser.parse_args()
    one_thread(arguments.cpu)
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            path = Path(folder) / f"{name}.csv"
            write(path, *shape)
            with Worker(ours, str(path)) as first, Worker(pyarrow, str(path)) as second:
                samples, failures = interleave({"table": first, "pyarrow": second}, arguments.rounds)
            reference = dict.fromkeys(samples, "pyarrow")
            print(f"{name}: {path.stat().st_size / 1e6:.0f} MB", failures or "")
            print(table(samples, reference, "seconds", 2))


if __name__ == "__main__":
    main()
