"""Learners of small models, trained one after the other or together."""

import itertools
from functools import partial

import numpy as np
import torch

from sweepwise.learner import Watch
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.task import Classification

CLASSES, RATE = 5, 0.25


def learners(make, runs, classes=CLASSES):
    """Of runs that begin differently."""
    made = []
    for seed in range(runs):
        torch.manual_seed(seed)
        sgd = partial(FlatOptimizer, partial(torch.optim.SGD, lr=RATE))
        made.append(ModuleLearner(make(), Classification(classes), sgd, [], noise_seed=seed))
    return made


def in_turn(own, batches):
    """Trains one after the other; returns the weights of each after every step."""
    kept = [[] for _ in own]
    for learner, weights, k in zip(own, kept, itertools.count(), strict=False):
        for step, (x, y) in enumerate(batches):
            learner.step(x[k], y[k], np.full(1, RATE), step, Watch.NOTHING)
            weights.append(learner.flat.values.clone())
    return kept


def at_once(own, batches):
    """As `in_turn`, together."""
    kept = [[] for _ in own]
    together = FusedLearner(own, batches[0][0][0])
    for step, (x, y) in enumerate(batches):
        together.step(x.flatten(0, 1), y.flatten(), np.full(len(own), RATE), step, Watch.NOTHING)
        for learner, weights in zip(own, kept, strict=True):
            weights.append(learner.flat.values.clone())
    return kept
