"""Draws what L1 and L2 do to the weights: histograms of all weights after a training on the digits.

    python scripts/draw_sparsity.py                                    none, l1 (proximal), l2
    python scripts/draw_sparsity.py regularizer=l1,l2 regularizer.l1.coefficient=1e-4 optimizer=sgd

L1 makes weights zero, L2 makes all of them smaller. regularizer=a,b,c chooses, and
regularizer.OPTION.KEY=VALUE goes to that option. The runs are train.py's, kept in outputs/sparsity;
whatever else train.py takes is taken here. figure=PATH says where the picture goes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store.request import Request
from sweepwise.tools import figure, scripting

if TYPE_CHECKING:
    from numpy.typing import NDArray


CONF = Path(__file__).parents[1] / "conf"
RUN = ["name=sparsity", "early_stop=none", "progress=false"]
TRIO = "none,l1,l2"
# Of these strengths both leave the accuracy where it is.
STRENGTHS = [
    "optimizer=sgd",
    "optimizer.lr=0.05",
    "trainer.max_epochs=30",
    "regularizer.l1.coefficient=4e-3",
    "regularizer.l1.proximal=true",
    "regularizer.l2.coefficient=4e-3",
]


class Weights(NamedTuple):
    """All weights of a trained network, without biases.

    Attributes:
        values: (weights,)
        zero: share that is exactly 0, [0, 1].
        score: its last metric, as `scripting.score` says it.
    """

    values: "NDArray[Any]"
    zero: float
    score: str


def weights(request: Request) -> Weights:
    """Trains a run, unless it has been, and returns its weights."""
    import numpy as np
    from safetensors.numpy import load_file

    from sweepwise.run import train

    folder = scripting.trained(request, train)
    tensors = load_file(folder / "checkpoints/last/weights.safetensors").values()
    values = np.concatenate([tensor.ravel() for tensor in tensors if tensor.ndim > 1])
    if not np.isfinite(values).all():
        raise UsageError([f"{folder}: its weights are not finite; use a smaller optimizer.lr"])
    return Weights(values, float((values == 0).mean()), scripting.score(folder))


def draw(drawn: Mapping[str, Weights], path: Path) -> None:
    """One histogram for each regularizer, on common axes."""
    picture = figure.new(1, len(drawn), width=3.6, height=3.2)
    limit = max(abs(weights.values).max() for weights in drawn.values())
    first = None
    for place, (name, (values, zero, score)) in enumerate(drawn.items(), 1):
        axes = picture.add_subplot(1, len(drawn), place, sharex=first, sharey=first)
        first = first or axes
        axes.hist(values, bins=81, range=(-limit, limit), log=True)
        text = figure.label(f"{zero:.0%} exactly 0, {score}", f"恰为 0 的占 {zero:.0%}，{score}")
        axes.set_title(f"{name}\n{text}", fontsize=10)
        axes.set_xlabel(figure.label("weight", "权重"))
    picture.axes[0].set_ylabel(figure.label("count", "个数"))
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(arguments, figure="outputs/figures/draw_sparsity.png", regularizer="")
    if not own["regularizer"]:
        own["regularizer"] = TRIO
        overrides = [*STRENGTHS, *overrides]
    names = scripting.words("regularizer", own["regularizer"])
    compose = partial(cli.composed, conf=CONF)
    requests = scripting.beside_each_other(compose, "regularizer", names, [*RUN, *overrides])
    drawn = scripting.each(requests, weights, leave_out=False)
    for name, (values, zero, score) in drawn.items():
        size = abs(values).sum(dtype=float)
        print(f"{name:<14}exactly 0: {zero:6.1%}   sum |w| {size:8.1f}   {score}")
    draw(drawn, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
