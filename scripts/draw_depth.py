"""Draws what an initialisation does to the signal in a deep network: ten tanh layers of width 100, no biases.

    python scripts/draw_depth.py                      normal weights of std 0.01, 0.1, 1; xavier; orthogonal
    python scripts/draw_depth.py std=0.05,0.2 init=kaiming
    python scripts/draw_depth.py std=none init=xavier,kaiming model.activation=relu nets=50

Forwards: the standard deviation of each layer's output, for inputs N(0, 1). Backwards: that of the
gradient at each layer's output, when one of N(0, 1) is sent back from the last. Both are means over
networks with the seeds 0, 1, 2, ... (nets=20). std=a,b takes init=normal with these deviations,
std=none leaves it out; model.KEY=VALUE changes the network; figure=PATH says where the picture goes.
"""

import math
from collections.abc import Mapping, Sequence
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
EXAMPLES = 64
MARKERS = "osD^v*"
NONE = "none"


class Signal(NamedTuple):
    """The signal in each layer, mean over networks.

    Attributes:
        forwards: (layers,) standard deviation of the output.
        backwards: (layers,) standard deviation of the gradient at the output.
        output: mean of the last layer's output.
    """

    forwards: "NDArray[Any]"
    backwards: "NDArray[Any]"
    output: float


def signal(request: Request, nets: int) -> Signal:
    """The signal in networks of the run's model and initialisation, with the seeds 0 ... nets - 1."""
    import numpy as np
    import torch

    from sweepwise.init import initialize_
    from sweepwise.parts import build_part
    from sweepwise.run import bind_all

    bound = bind_all(request.config)
    init = bound["init"]
    hidden, activation = request.config["model"]["hidden"], request.config["model"]["activation"]
    if len(hidden) < 2:
        raise UsageError([f"model.hidden={hidden}: must have at least two layers"])
    deviations, mean = np.zeros((2, len(hidden))), 0.0
    for seed in range(nets):
        torch.manual_seed(seed)
        network = bound["model"].target((hidden[0],), hidden[-1])
        x = torch.randn(EXAMPLES, hidden[0])
        build_part("init", partial(initialize_, network, init.target, x, seed=seed, **init.envelope))
        layers: list[torch.Tensor] = []
        for name, module in network.named_children():
            x = module(x)
            if name.startswith(activation):
                layers.append(x)
        gradients = torch.autograd.grad(layers[-1], layers, torch.randn_like(layers[-1]))
        for row, tensors in zip(deviations, (layers, gradients), strict=True):
            row += [tensor.detach().std().item() / nets for tensor in tensors]
        mean += layers[-1].mean().item() / nets
    return Signal(deviations[0], deviations[1], mean)


def requests(inits: Sequence[str], deviations: Sequence[str], overrides: Sequence[str]) -> dict[str, Request]:
    """The run of each initialisation, by what a legend calls it.

    Raises:
        UsageError: one cannot be composed.
    """
    compose = partial(cli.composed, conf=CONF)
    every = len(inits) == len(scripting.options(CONF, "init", "all"))
    shared = ["model=deep_tanh", *overrides]
    by_name = {
        f"normal, std {std}": compose([*shared, "init=normal", f"init.std={std}"]) for std in deviations
    }
    return by_name | (
        scripting.beside_each_other(compose, "init", inits, shared, leave_out=every) if inits else {}
    )


def draw(drawn: Mapping[str, Signal], path: Path) -> None:
    """Two panels: forwards and backwards."""
    picture = figure.new(1, 2, width=5.2, height=4)
    titles = {
        "forwards": figure.label("forwards: outputs of each layer", "前向：各层输出"),
        "backwards": figure.label("backwards: gradients at each layer", "反向：各层梯度"),
    }
    for place, (direction, title) in enumerate(titles.items(), 1):
        axes = picture.add_subplot(1, 2, place)
        for number, (name, result) in enumerate(drawn.items()):
            values = getattr(result, direction)
            shown = [value if value > 0 else math.nan for value in values]  # a log axis has no zero
            size = 4 + 2 * (len(drawn) - number)  # lines may lie on each other
            look = {"marker": MARKERS[number % len(MARKERS)], "markersize": size, "fillstyle": "none"}
            axes.semilogy(range(1, len(values) + 1), shown, label=name, **look)
        axes.set_title(title)
        axes.set_xlabel(figure.label("layer", "层"))
        axes.set_ylabel(figure.label("standard deviation", "标准差"))
        axes.grid(True, alpha=0.3)
    axes.legend()
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for, and says in numbers what comes out of the last layer."""
    own, overrides = scripting.settings(
        arguments,
        figure="outputs/figures/draw_depth.png",
        std="0.01,0.1,1.0",
        init="xavier,orthogonal",
        nets="20",
    )
    if not own["nets"].isdecimal() or int(own["nets"]) == 0:
        raise UsageError([f"nets={own['nets']}: must be a whole number from 1"])
    deviations = scripting.words("std", own["std"]) if own["std"] != NONE else []
    inits = scripting.options(CONF, "init", own["init"]) if own["init"] != NONE else []
    if not deviations and not inits:
        raise UsageError(["std=none init=none: one of them must name something"])
    networks = partial(signal, nets=int(own["nets"]))
    drawn = scripting.each(requests(inits, deviations, overrides), networks, leave_out=own["init"] == "all")
    for name, result in drawn.items():
        print(
            f"{name:<18}output: mean {result.output:9.6f}, std {result.forwards[-1]:.4g}"
            f"   gradient at the first layer: std {result.backwards[0]:.4g}"
        )
    draw(drawn, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
