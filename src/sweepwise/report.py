"""What a person reads of a run: a few lines before it and after it, and its description in TensorBoard."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sweepwise import record
from sweepwise.record import Request

if TYPE_CHECKING:
    from sweepwise.parts import Parts

Hparam = bool | int | float | str


def opening(request: Request, parts: "Parts") -> None:
    """Says what will be trained, where it is written and how to look at it."""
    data, settings = parts.data, parts.settings
    target = f"{data.classes} classes" if data.classes else "regression"
    counts = f"{len(data.train.y)} train, {len(data.validation.y)} validation, {len(data.test.y)} test"
    total = sum(parameter.numel() for parameter in parts.model.parameters())
    weights = parts.learner.weights
    parallel = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
    _line("data", f"{data.name}: {counts}; {' x '.join(map(str, data.features))} features, {target}")
    _line(
        "model", f"{total:,} parameters: {weights:,} weights; the rest, biases and gains, is not regularised"
    )
    _line(
        "train",
        f"{parts.steps} steps of batch {data.batch_size}, lr {request.config['optimizer']['lr']:g}, "
        f"{data.train.y.device}, {parallel}, seed {parts.seeds.value}",
    )
    _line("folder", str(request.folder))
    _line("look", f"tensorboard --logdir {request.config['output_dir']}")
    for note in parts.notes:
        _line("note", note)


def closing(folder: object, ended: Mapping[str, Any]) -> None:
    """Says how a run ended and what its best result is, from its record."""
    if "seconds" in ended:
        stopped = ended["stopped"]
        where = f"after epoch {stopped['epoch']}, step {stopped['step']}" if stopped["step"] >= 0 else ""
        why = f": {ended['reason']}" if ended["reason"] else ""
        _line(ended["status"], f"{where}, {ended['seconds']:.1f} s{why}".lstrip(", "))
    best = ended.get("best") or {}
    if best.get("epoch", -1) >= 0:
        metrics = ", ".join(
            f"{tag} {value:.4g}" for tag, value in best["metrics"].items() if tag != best["metric"]
        )
        _line("best", f"{best['metric']} {best['value']:.6g} at epoch {best['epoch']} ({metrics})")
        _line("weights", f"{folder}/{record.BEST_WEIGHTS}")


def texts(request: Request, environment: Mapping[str, Any]) -> dict[str, str]:
    """What TensorBoard's text tab shows: config, overrides, environment."""
    yaml = OmegaConf.to_yaml(OmegaConf.create(dict(request.config)))
    return {
        "run/config": f"```yaml\n{yaml}```",
        "run/overrides": "\n".join(f"- `{override}`" for override in request.overrides) or "none",
        "run/environment": f"```json\n{json.dumps(environment, indent=2)}\n```",
    }


def hparams(request: Request) -> dict[str, Hparam]:
    """The settings as TensorBoard's HParams tab takes them: no nulls, no lists."""
    chosen: dict[str, Hparam] = {group: str(option) for group, option in request.choices.items()}
    for group, node in request.config.items():
        if isinstance(node, Mapping) and group != "monitor":
            chosen |= dict(_leaves(group, node))
    return chosen


def _leaves(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Hparam]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{path}.{key}", value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{path}.{key}", str(list(value))
        elif value is not None and key != "_target_":
            yield f"{path}.{key}", value


def _line(key: str, text: str) -> None:
    print(f"{key:<14}{text}", flush=True)
