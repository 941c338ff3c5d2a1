"""The training metrics of an epoch, gathered over the steps."""

import math

import pytest
import torch

from sweepwise.task import Classification, Regression
from sweepwise.trainer.meter import Meter


def fill(meter, steps, runs):
    for losses, outputs, targets in steps:
        meter.add(losses[runs], outputs[runs], targets[runs].flatten())
        if meter.full:
            meter.flush()
    meter.flush()
    return meter.finish_epoch()


@pytest.mark.parametrize("task", [Classification(3, metrics=["accuracy", "ece"]), Regression(1.0)])
@pytest.mark.parametrize("steps", [1, 2, 63, 64, 65, 200])
def test_a_run_alone_is_to_the_bit_what_it_is_among_others(task, steps):
    generator = torch.Generator().manual_seed(steps)

    def step(size):
        wide = isinstance(task, Classification)
        outputs = torch.randn(5, size, 3 if wide else 1, generator=generator)
        targets = torch.randint(3, (5, size), generator=generator) if wide else outputs[..., 0] + 0.1
        return torch.rand(5, generator=generator), outputs, targets

    seen = [step(13 if number % 3 else 7) for number in range(steps)]
    loss, means = fill(Meter(task, 5), seen, slice(None))
    examples = sum(targets.shape[1] for _, _, targets in seen)
    for run in range(5):
        alone_loss, alone_means = fill(Meter(task, 1), seen, slice(run, run + 1))
        assert alone_loss.tolist() == [loss[run]] and alone_means.tolist() == [means[run].tolist()]
        exact = math.fsum(losses[run].item() * targets.shape[1] for losses, _, targets in seen) / examples
        assert loss[run] == pytest.approx(exact, rel=1e-14)
