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

# Keys of the run itself, and their types.
SETTINGS = {"name": str | int, "output_dir": str, "fresh": bool, "accept_changes": bool, "progress": bool}
