"""A run's network with the preparation of its inputs inside, as a file that other programs compute with."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweepwise.data.new_rows import stored_shape
from sweepwise.data.preparation import Preparation
from sweepwise.errors import Failure, UsageError
from sweepwise.predict.predictor import Predictor
from sweepwise.predict.whole import Whole
from sweepwise.system.atomic import write_atomic

ENDINGS = (".pt2", ".onnx")
SIZES = (1, 2, 64)  # rows of the examples by which a file is checked
ROUNDING = {"fp32": 1e-4}  # of a probability, or of a value in deviations of the target
ROUGH = 3e-2  # the same where the run computed products in 16 bits
INSIDE = ("mean", "std", "target")  # of what is described, as the file computes it
NEEDED = ("onnx", "onnxscript", "onnxruntime")
INPUT, DESCRIPTION = "rows", "sweepwise.json"
Computed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes:
        path: of the file.
        size: in bytes.
        inputs: what stands in each column of the input, or its shape.
        outputs: what comes out.
        rows: with which it was compared with the run.
        difference: the greatest to the run, of a probability or a value.
    """

    path: Path
    size: int
    inputs: list[str]
    outputs: str
    rows: int
    difference: float


def export(predictor: Predictor, path: Path) -> Exported:
    """Writes a network with the preparation of its inputs into a file, once that computes the same.

    Args:
        predictor: the run's.
        path: ends in .pt2 (`torch.export.load` reads it) or .onnx.

    Raises:
        UsageError: the ending is another one, or a package is missing that writes it.
        Failure: the network cannot be written in this form, or what was written computes something else.
    """
    if path.suffix not in ENDINGS:
        raise UsageError([f"{path}: must end in {' or '.join(ENDINGS)}"])
    if path.suffix == ".onnx":
        _refuse_without_onnx(path)
    own = predictor.preparation
    examples = [_examples(own, rows) for rows in SIZES]
    whole, write = Whole(predictor).eval(), _onnx if path.suffix == ".onnx" else _pt2
    description = json.dumps({key: value for key, value in own.fields().items() if key not in INSIDE})
    with _quiet(), torch.no_grad():
        program = _program(whole, torch.from_numpy(examples[-1]), predictor.name)
        content, computed = write(program, description, bool(own.labels))
        difference = _greatest_difference(predictor, examples, computed)
    write_atomic(path, content)
    outputs = f"probabilities (rows, {len(own.labels)}) of {_listed(own.labels)}"
    outputs = outputs if own.labels else f"values (rows,) of {own.reading.target or 'the target'}"
    return Exported(path, len(content), described(own), outputs, sum(SIZES), difference)


def described(preparation: Preparation) -> list[str]:
    """What stands in each column of an exported network's input, or its shape."""
    if preparation.filling is None:
        return [f"(rows, {', '.join(map(str, stored_shape(preparation.shape, preparation.reading)))})"]
    lines = []
    for place, (feature, fill) in enumerate(_columns(preparation)):
        codes = "a number"
        if feature.words is not None:
            codes = ", ".join(f"{number} = {word}" for number, word in enumerate(feature.words)) + ", -1 none"
        gaps = "never missing" if np.isnan(fill).any() else "NaN where missing"
        lines.append(f"column {place}, {feature.name}: {codes}; {gaps}")
    return lines


def _columns(preparation: Preparation) -> Iterator[tuple[Any, np.ndarray]]:
    """The columns of a table, with what fills each."""
    filling = preparation.filling
    assert filling is not None
    for feature, span in zip(filling.encoding.features, filling.encoding.spans(), strict=True):
        yield feature, filling.fill[span]


def _listed(labels: tuple[Any, ...]) -> str:
    return ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")


def _examples(preparation: Preparation, rows: int) -> np.ndarray:
    """Rows like those of the training part, any category among them, and gaps where these may be."""
    draw = np.random.Generator(np.random.PCG64(rows))
    mean, std = preparation.scaling.mean, preparation.scaling.std
    if preparation.filling is None:
        shape = (rows, *preparation.shape)
        x = mean + std * draw.standard_normal(shape)
        last = {"last": np.moveaxis(x, 1, -1), "none": x[:, 0] if len(shape) > 2 else x}
        return np.ascontiguousarray(last.get(preparation.reading.channels or "", x))
    columns, start = [], 0
    for feature, fill in _columns(preparation):
        own = draw.standard_normal(rows)
        if mean.ndim:
            own = mean[start] + std[start] * own
        if feature.words is not None:
            own = draw.integers(-1, feature.width, rows).astype(float)
        gaps = (draw.random(rows) < 0.2) & ~np.isnan(fill).any()
        columns.append(np.where(gaps, np.nan, own))
        start += feature.width
    return np.column_stack(columns)


def _program(whole: Whole, x: Tensor, name: str) -> torch.export.ExportedProgram:
    """The traced program, for any number of rows."""
    rows = ({0: torch.export.Dim("rows")},)
    for strict in (False, True):  # one way fixes what another one leaves open, such as len(x)
        try:
            return torch.export.export(whole, (x,), dynamic_shapes=rows, strict=strict)
        except Exception as error:  # torch has no common class for its many kinds
            reason = str(error).strip().partition("\n")[0]
    raise Failure(f"{name}: torch.export cannot trace this network ({reason})")


def _pt2(program: torch.export.ExportedProgram, description: str, classes: bool) -> tuple[bytes, Computed]:
    """The program as torch writes it, and what it computes once it is read again."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={DESCRIPTION: description})
    file.seek(0)
    module = torch.export.load(file).module()
    return file.getvalue(), lambda x: module(torch.from_numpy(x)).numpy(force=True)


def _onnx(program: torch.export.ExportedProgram, description: str, classes: bool) -> tuple[bytes, Computed]:
    """The program as an ONNX model, and what onnxruntime computes with it."""
    import onnxruntime

    outputs = ["probabilities" if classes else "values"]
    try:
        written = torch.onnx.export(
            program, input_names=[INPUT], output_names=outputs, dynamo=True, verbose=False
        )
        assert written is not None
        written.model.metadata_props[DESCRIPTION] = description
        content = written.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise Failure(f"ONNX, or onnxruntime, cannot hold this network ({reason})") from error
    return content, lambda x: session.run(None, {INPUT: x})[0]


def _refuse_without_onnx(path: Path) -> None:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(
            [
                f"{path}: needs {', '.join(missing)}, of the extra 'export': pip install "
                f"{' '.join(missing)}; without these, export a .pt2"
            ]
        )


def _greatest_difference(predictor: Predictor, examples: list[np.ndarray], computed: Computed) -> float:
    """Of what a file computes to what the run's predictor says.

    Raises:
        Failure: it is more than rounding.
    """
    own, greatest = predictor.preparation, 0.0
    unit = 1.0 if own.labels else own.target_std
    for x in examples:
        outputs = predictor.outputs_of(own.inputs(x))
        wanted = predictor.probabilities_of(outputs) if own.labels else predictor.predictions_of(outputs)
        found = computed(x)
        if found.shape != wanted.shape:
            raise Failure(f"{predictor.name}: exported, it gives {found.shape} instead of {wanted.shape}")
        size = 1 if own.labels else np.maximum(1, np.abs(outputs).max())
        difference = np.abs(found - wanted).max() / size
        if not difference <= unit * ROUNDING.get(predictor.precision, ROUGH):
            raise Failure(
                f"{predictor.name}: exported, its outputs differ by up to {difference:.3g} from those of the "
                "run, more than rounding; the file was not written"
            )
        greatest = max(greatest, float(np.abs(found - wanted).max()))
    return greatest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch's tracing, which are about its own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
