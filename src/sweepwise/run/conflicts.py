"""Settings that are valid one by one but cannot be combined."""

from torch.nn.modules.batchnorm import _BatchNorm

from sweepwise.early_stop import sign
from sweepwise.errors import UsageError
from sweepwise.parts import Parts
from sweepwise.store.request import Request


def refuse_conflicts(request: Request, parts: Parts) -> list[str]:
    """Refuses settings that cannot be combined; returns notes about those that have no effect.

    Raises:
        UsageError: with every conflict.
    """
    faults, notes = [], []
    config, data, early_stop, schedule = request.config, parts.data, parts.early_stop, parts.schedule
    logged = [f"{part}/{name}" for part in ("train", "val") for name in parts.task.metrics]
    for key, metric in {"early_stop.metric": early_stop.metric, "scheduler.metric": schedule.metric}.items():
        if metric not in logged:
            faults.append(
                f"{key}={metric}: is never logged; use {', '.join(logged)}, or add it with trainer.metrics"
            )
    mode = config["scheduler"].get("mode")
    if mode in ("min", "max") and sign(schedule.metric, mode) != sign(schedule.metric, "auto"):
        better = "min" if mode == "max" else "max"
        faults.append(f"scheduler.mode={mode}: does not fit {schedule.metric}; use scheduler.mode={better}")
    epochs = -(-parts.steps // data.steps_per_epoch)
    if early_stop.least_epochs > epochs:
        rule = f"{early_stop.least_epochs - 1}: must be below the {epochs} epochs of the training"
        if any(override.startswith("early_stop") for override in request.overrides):
            faults.append(f"early_stop.patience={rule}, or use early_stop=none")
        else:
            notes.append(f"early stopping has no effect: early_stop.patience={rule}")
    if len(data.train.y) % data.batch_size == 1 and any(
        isinstance(m, _BatchNorm) for m in parts.model.modules()
    ):
        faults.append(
            f"data.batch_size={data.batch_size}: leaves a last batch of 1 example, which batch norm cannot "
            "normalise; choose another data.batch_size"
        )
    if "weight_decay" in config["regularizer"] and config["optimizer"].get("weight_decay", 0):
        faults.append(
            f"optimizer.weight_decay={config['optimizer']['weight_decay']:g}: must be 0 with "
            "regularizer=weight_decay, since the weights would decay twice; set one of the two"
        )
    if faults:
        raise UsageError(faults)
    return notes
