"""Draws the symmetry problem: the weights of a hidden layer of 32 units, after five epochs on the digits.

    python scripts/draw_symmetry.py                       zeros, constant, xavier
    python scripts/draw_symmetry.py init=constant,normal trainer.max_epochs=20

Units that start equal get equal gradients, so they stay one unit; a row of the picture is a unit. The
runs are train.py's, kept in outputs/symmetry. Whatever else train.py takes is taken here, figure=PATH
says where the picture goes.
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
SMALL = ["name=symmetry", "model.hidden=[32]", "trainer.max_epochs=5", "early_stop=none", "progress=false"]
LAYER = "linear0.weight"


class Layer(NamedTuple):
    """The first hidden layer after training.

    Attributes:
        weights: (units, inputs)
        distinct: units that differ from each other by more than rounding.
        score: its last metric, as `scripting.score` says it.
    """

    weights: "NDArray[Any]"
    distinct: int
    score: str


def layer(request: Request) -> Layer:
    """Trains a run, unless it has been, and returns its first layer."""
    import numpy as np
    from safetensors.numpy import load_file

    from sweepwise.run import train

    folder = scripting.trained(request, train)
    weights = load_file(folder / "checkpoints/last/weights.safetensors")
    if LAYER not in weights:
        raise UsageError([f"model: has no hidden layer {LAYER.split('.')[0]!r}; choose model=mlp"])
    if not np.isfinite(weights[LAYER]).all():
        raise UsageError([f"{folder}: its weights are not finite; use a smaller optimizer.lr"])
    rows = np.round(weights[LAYER], 4)
    return Layer(weights[LAYER], len(np.unique(rows, axis=0)), scripting.score(folder))


def draw(drawn: Mapping[str, Layer], path: Path) -> None:
    """One image of weights for each initialisation."""
    rows, columns = 1, len(drawn)
    picture = figure.new(rows, columns, width=3.6, height=3)
    for place, (name, (weights, distinct, score)) in enumerate(drawn.items(), 1):
        axes = picture.add_subplot(rows, columns, place)
        limit = abs(weights).max() or 1
        axes.imshow(weights, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        units = len(weights)
        text = figure.label(
            f"{distinct} of {units} units distinct, {score}",
            f"{units} 个单元共 {distinct} 种，{score}",
        )
        axes.set_title(f"{name}\n{text}", fontsize=10)
        axes.set_xlabel(figure.label("input", "输入"))
        axes.set_ylabel(figure.label("unit", "单元"))
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(
        arguments, figure="outputs/figures/draw_symmetry.png", init="zeros,constant,xavier"
    )
    names = scripting.words("init", own["init"])
    compose = partial(cli.composed, conf=CONF)
    requests = scripting.beside_each_other(compose, "init", names, [*SMALL, *overrides])
    drawn = scripting.each(requests, layer, leave_out=False)
    for name, trained in drawn.items():
        print(f"{name:<14}{trained.distinct:>4} of {len(trained.weights)} units distinct   {trained.score}")
    draw(drawn, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
