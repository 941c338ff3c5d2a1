"""Our own trainer on the benchmarks' workloads. Measures training steps per second, as in reference.py.

    scalars       scalars written every 10 steps and at each validation
    histograms    the same, and histograms of weights, gradients and activations every 50 steps
    silent        nothing written

The only file of the benchmarks that knows the package.
"""

from workload import Workload


def scalars(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="scalars")


def histograms(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="histograms")


def silent(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="silent")


def fit(workload: Workload, epochs: int, monitor: str) -> float:
    """Train with the product's trainer.

    Args:
        workload: data and constants; pass each validation's result to `workload.report`.
        epochs: passes over the training part.
        monitor: "scalars", "histograms" or "silent".

    Returns:
        Steps per second of the training loop: all steps, each epoch's validation, and the writing of events.
    """
    raise RuntimeError("not connected yet")
