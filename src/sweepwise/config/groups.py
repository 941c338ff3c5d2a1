"""The names of the config groups, and the keys that belong to no group."""

GROUPS = (
    "seed",
    "data",
    "model",
    "init",
    "optimizer",
    "scheduler",
    "regularizer",
    "early_stop",
    "trainer",
    "checkpoint",
    "monitor",
)
EXPERIMENT = "experiment"  # a group of whole configs, which override all others; none is chosen by default
LAUNCHER = "hydra/launcher"  # where the runs of a sweep are trained; a group of Hydra's with options of ours
SWEEPER = "hydra/sweeper"  # which runs a sweep has; another one

# Keys of the run itself, and their types.
SETTINGS = {
    "name": str | int,
    "output_dir": str,
    "fresh": bool,
    "accept_changes": bool,
    "progress": bool,
    "report": bool,
    "mean_runs": bool,
}
# Those that the configs of earlier runs do not have, which can be trained again.
ADDED = frozenset({"report", "mean_runs"})

# The arguments that a part gets from the parts built before it; no YAML can set them.
GIVEN = {
    "model": {"features", "outputs"},
    "init": {"tensor", "generator"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "last_epoch"},
    "monitor": {"folder", "begin"},
    "checkpoint": {"folder"},
}
