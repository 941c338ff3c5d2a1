"""Writes a run's network, with the preparation of its inputs, for other programs.

  python scripts/export.py RUN model.pt2      for torch.export.load
  python scripts/export.py RUN model.onnx     for ONNX
  python scripts/export.py outputs/main model.pt2

RUN is the folder of a run; of an experiment's folder its best run is taken, by
the validation part, and named. The file takes unscaled rows of any number, as
float64: what missing values become, categories and scaling are inside. Of a
table they are its columns in the order that is printed, a category as the
number that is printed, -1 if it is none, NaN where a value is missing. Out come
probabilities of the classes, or values in the target's units. What must be
known of columns and classes stands in the file too, as sweepwise.json. ONNX
needs the packages of the extra 'export': onnx, onnxscript and onnxruntime.

Before it is written, the file's content is read again and compared with the run
on rows like those of the training; the greatest difference is printed. What
only rounds in another way is written, what computes something else is not.

checkpoint=last takes the newest weights instead of the best.

Exit codes: 0, 1 if the network cannot be exported, 2 bad usage.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from sweepwise import cli
from sweepwise.system.console import print_line
from sweepwise.tools import scripting

if TYPE_CHECKING:
    from sweepwise.predict.predictor import Which


def main(arguments: list[str]) -> None:
    """Exports a run's network."""
    first = {"RUN": "the folder of a run", "FILE": "ending in .pt2 or .onnx"}
    (run, file), own = scripting.leading(arguments, first, checkpoint="best")
    path = scripting.file_to_write("FILE", file)
    folder = scripting.chosen_run(Path(run))

    from sweepwise import Predictor
    from sweepwise.predict.exported import export

    checkpoint = cast("Which", own["checkpoint"])  # any other is refused there
    predictor = Predictor.read(folder, checkpoint=checkpoint, device="cpu")
    done = export(predictor, path)
    print_line("exported", f"{done.path}, {done.size:,} bytes")
    for key, line in zip(
        ["input", *[""] * len(done.inputs)], ["rows, float64, unscaled", *done.inputs], strict=True
    ):
        print_line(key, line)
    print_line("output", done.outputs)
    print_line("checked", f"greatest difference to the run on {done.rows} rows: {done.difference:.2g}")


if __name__ == "__main__":
    cli.script(main, __doc__)
