"""Which groups a config has, and what stands beside them."""

EXPERIMENT = "experiment"  # a group of whole settings, above all others; none is chosen by default


LAUNCHER = "hydra/launcher"  # where the runs of a sweep go; one of Hydra's groups, to which we bring options


SETTINGS = {"name": str | int, "output_dir": str, "fresh": bool, "accept_changes": bool, "progress": bool}


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
