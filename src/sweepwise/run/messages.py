"""The lines that are printed when a run starts and when it ends."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise.distributed.place import place
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.store.status import PRUNED, UNPAUSED
from sweepwise.system.console import command_to_continue, print_line, wrapped

if TYPE_CHECKING:
    from sweepwise.parts import Parts


def opening(request: Request, parts: "Parts", folder: Path, start: Sequence[tuple[str, str]]) -> None:
    """Prints what will be trained, where it is written and how to look at it.

    Args:
        request: the run.
        parts: its parts.
        folder: its folder.
        start: how it starts or resumes, as (key, text).
    """
    data, settings = parts.data, parts.settings
    target = f"{data.classes} classes" if data.classes else "regression"
    counts = f"{len(data.train.y)} train, {len(data.validation.y)} val, {len(data.test.y)} test"
    total = parts.parameters
    others = total - parts.learner.weights
    parallel = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
    if (processes := place().size) > 1:
        parallel = f"{processes} processes of {parallel}"
    lines = [
        ("data", f"{data.name}: {counts}; {' x '.join(map(str, data.features))} features, {target}"),
        ("model", f"{total:,} parameters, {others:,} of them biases and gains, not regularised"),
        (
            "train",
            f"{parts.steps} steps of batch {data.batch_size}, lr {request.config['optimizer']['lr']:g}, "
            f"{data.train.y.device}, {parallel}, {_seeds(parts)}",
        ),
        *_taken(parts),
        *start,
        ("folder", str(folder)),
        ("look", f"tensorboard --logdir {request.config['output_dir']}"),
        *(("note", note) for note in parts.notes),
    ]
    for key, text in lines:
        print(wrapped(key, text), flush=True)


def opening_together(requests: Sequence[Request], parts: "Parts", folders: Sequence[Path], step: int) -> None:
    """Prints which runs are trained as one program.

    Args:
        requests: the runs.
        parts: the first run's.
        folders: the folder of each run.
        step: the next step.
    """
    data = parts.data
    print(wrapped("together", f"{len(requests)} runs as one program"))
    for request in requests:
        print(wrapped("", " ".join(request.overrides)))
    training = f"{parts.steps} steps of batch {data.batch_size}, {data.train.y.device}"
    print(wrapped("train", training + (f", from step {step}" if step else "")))
    print(wrapped("folder", str(folders[0].parent)), flush=True)


def closing_together(folder: Path, ended: Mapping[str, Any]) -> None:
    """Prints in one line how a run of a group has ended."""
    best = record.best(ended)
    print_line(ended["status"], f"{folder.name}: best {best}" if best else folder.name)


def _taken(parts: "Parts") -> Iterator[tuple[str, str]]:
    """What the length of the training has decided: the key of the line, and its text."""
    if parts.taken:
        epochs = -(-parts.steps // parts.data.steps_per_epoch)
        values = ", ".join(f"{key}={value}" for key, value in parts.taken.items())
        yield "horizon", f"{values}: by the length of {epochs} epochs, {parts.steps} steps".replace("'", "")


def _seeds(parts: "Parts") -> str:
    """The run's seed, and the seeds of its random streams that differ from it."""
    seeds = parts.seeds
    streams = {name: getattr(seeds, name) for name in ("data", "init", "noise")}
    differing = ", ".join(f"{name} {seed}" for name, seed in streams.items() if seed != seeds.value)
    return f"seed {seeds.value}" + (f" ({differing})" if differing else "")


def closing(folder: object, ended: Mapping[str, Any]) -> None:
    """Prints from a run's record how it ended and what its best result is."""
    if "seconds" in ended:
        stopped = ended["stopped"]
        at = "at" if ended["status"] == "interrupted" else "after"  # in the middle of an epoch, or at its end
        where = f"{at} epoch {stopped['epoch']}, step {stopped['step']}" if stopped["step"] >= 0 else ""
        said = ended["reason"] == f"after step {stopped['step']}"
        why = f": {ended['reason']}" if ended["reason"] and not said else ""
        if ended["status"] == PRUNED:
            where, why = ended["reason"].removeprefix(f"{PRUNED} "), ""
        print_line(ended["status"], f"{where}, {ended['seconds']:.1f} s{why}".lstrip(", "))
    if best := record.best(ended):
        metric, values = ended["best"]["metric"], ended["best"].get("metrics") or {}
        others = ", ".join(
            f"{tag} {value:.4g}" for tag, value in values.items() if tag.startswith("val/") and tag != metric
        )
        print_line("best", f"{best} ({others})" if others else best)
        print_line("weights", f"{folder}/{record.BEST_WEIGHTS}")
    if ended.get("not_bit_exact"):
        print(wrapped("note", f"not bit-exact: resumed after changes: {'; '.join(ended['not_bit_exact'])}"))
    if ended["status"] == "interrupted":
        print_line("to go on", command_to_continue() if place().size == 1 else "the same command")
    elif ended["status"] == PRUNED:
        print_line("to go on", UNPAUSED)
