"""What is slow to import and not needed is not imported: one process does it all, and looks after each step.

torch._dynamo takes as long as all else of torch, sklearn and tensorboard half of that.
"""

import json
import subprocess
import sys

from small import ENVIRONMENT

LATE = ("torch._dynamo", "sklearn", "tensorboard", "google.protobuf")
HEAD = """
import json, pathlib, sys
from functools import partial
import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler
from sweepwise.learner import Watch
from sweepwise.optimizer import FlatOptimizer
from sweepwise.task import Classification
sgd = partial(FlatOptimizer, partial(torch.optim.SGD, lr=1.0))
"""
STEPS = {
    "digits": """
from sweepwise.data.digits import digits
digits()
""",
    "seeds": """
from sweepwise.seed import Seeds
Seeds(0, 0, 0, 0).apply()
""",
    "schedules": """
from sweepwise.scheduler import Schedule
options = dict(lr=0.1, steps=20, steps_per_epoch=2, warmup=1)
Schedule(partial(lr_scheduler.CosineAnnealingLR, T_max=9), **options, end=9).notes()
Schedule(partial(lr_scheduler.StepLR, step_size=30), **options).notes()
Schedule(partial(lr_scheduler.ReduceLROnPlateau, patience=0), **options).observe(2, 1.0)
""",
    "optimizers": """
from sweepwise.optimizer.muon import Muon
shapes = [torch.Size((2, 3)), torch.Size((2,))]
usual = "Adam AdamW SGD RMSprop Adagrad NAdam RAdam Adafactor".split()
for kind in (*(getattr(torch.optim, name) for name in usual), partial(Muon, first=0, last=0)):
    row = torch.ones(8)
    build = partial(kind, lr=0.1, weight_decay=0.1)
    optimizer = FlatOptimizer(build, values=row, gradient=torch.ones(8), weights=6, shapes=shapes)
    optimizer.step_(0.1)
    optimizer.step_(0.1)
    if optimizer.takes_parts:
        optimizer.step_parts_(0.1, [torch.ones(shape) for shape in shapes])
""",
    "training alone": """
from sweepwise.learner.module import ModuleLearner
for options in ({}, {"accumulate": 2, "ema": 0.9, "precision": "fp16"}):
    one = ModuleLearner(nn.Linear(4, 3), Classification(3), sgd, [], 0, **options)
    one.step(torch.ones(4, 4), torch.zeros(4, dtype=torch.int64), np.array([0.1]), 0, Watch.TENSORS)
    one.evaluate([(torch.ones(4, 4), torch.zeros(4, dtype=torch.int64))])
""",
    "training together": """
from sweepwise.learner.fused import FusedLearner
make = lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 3))
own = [ModuleLearner(make(), Classification(3), sgd, [], i) for i in range(2)]
both = FusedLearner(own, torch.ones(4, 4))
both.step(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64), np.array([0.1, 0.2]), 0, Watch.TENSORS)
both.evaluate([(torch.ones(4, 4), torch.zeros(4, dtype=torch.int64))])
""",
    "events of scalars and histograms": """
from sweepwise.monitor.events import EventFile, truncate_events
from sweepwise.monitor.histogram import histograms
with EventFile(pathlib.Path(sys.argv[1])) as file:
    file.scalars(0, {"x": 1.0})
    file.histograms(0, histograms({"x": torch.ones(3)}))
""",
}


def test_what_is_slow_and_not_needed_is_not_imported(tmp_path):
    look = "seen[{name!r}] = [late for late in {late} if late in sys.modules]\n"
    steps = "".join(code + look.format(name=name, late=LATE) for name, code in STEPS.items())
    code = f"{HEAD}\nseen = {{}}\n{steps}\nprint(json.dumps(seen))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [] for name in STEPS}
