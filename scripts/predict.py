"""Predicts new rows by a trained run.

  python scripts/predict.py RUN data.csv            to standard output
  python scripts/predict.py outputs/main data.csv   by the best run of a sweep
  python scripts/predict.py RUN data.csv output=predictions.csv

RUN is the folder of a run; of an experiment's folder its best run is taken, by
the validation part, and named. DATA is a csv, tsv, parquet, npz or npy file of
rows in their original units. Columns are found by their names; others, such as
the target, are ignored. What is printed is a csv with a line for each row: its
prediction, a label or a number as the target's column has them, and for classes
the probability of each.

checkpoint=last takes the newest weights instead of the best. device=cpu says
where to compute. delimiter=semicolon and decimal=comma are for a csv file that
is written in another way than the run's.

Exit codes: 0, 1 if the weights cannot be used, 2 bad usage, or rows that do not
fit the run.
"""

import csv
import io
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.system.atomic import write_atomic
from sweepwise.system.console import print_line, wrapped
from sweepwise.tools import scripting

if TYPE_CHECKING:
    from sweepwise import Predictor

if TYPE_CHECKING:
    from sweepwise.predict.predictor import Which


def main(arguments: list[str]) -> None:
    """Predicts the rows of a file."""
    first = {"RUN": "the folder of a run", "DATA": "a csv, parquet or npz file"}
    (run, data), own = scripting.leading(
        arguments, first, output="", checkpoint="best", device="", delimiter="", decimal=""
    )
    if own["decimal"] not in ("", "point", "comma"):
        raise UsageError([f"decimal={own['decimal']}: must be point or comma"])
    output = scripting.file_to_write("output", own["output"], Path(data)) if own["output"] else None
    folder = scripting.chosen_run(Path(run))

    from sweepwise import Predictor

    checkpoint = cast("Which", own["checkpoint"])  # any other is refused there
    predictor = Predictor.read(folder, checkpoint=checkpoint, device=own["device"] or None)
    known = predictor.preparation.reading
    delimiter, decimal = own["delimiter"] or known.delimiter, own["decimal"] or known.decimal
    reading = replace(known, delimiter=delimiter, decimal=decimal)
    predictor.preparation = replace(predictor.preparation, reading=reading)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        outputs = predictor.outputs(data)
    for note in notes:
        print(wrapped("note", str(note.message)), file=sys.stderr)
    text = table(predictor, outputs)
    if output is None:
        sys.stdout.write(text)
    else:
        write_atomic(output, text.encode())
        print_line("predicted", f"{len(outputs)} rows, in {output}")


def table(predictor: "Predictor", outputs: Any) -> str:
    """A line for each row, as csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prediction", *(f"probability_{label}" for label in predictor.labels)])
    predictions = predictor.predictions_of(outputs).tolist()
    if predictor.labels:
        shares = ([f"{share:.9g}" for share in row] for row in predictor.probabilities_of(outputs).tolist())
        writer.writerows([label, *row] for label, row in zip(predictions, shares, strict=True))
    else:
        writer.writerows([value] for value in predictions)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    cli.script(main, __doc__)
