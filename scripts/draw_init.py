"""Draws the weights that initialisations give to a layer of 100 inputs and 100 outputs, as histograms.

    python scripts/draw_init.py                                  constant, normal, xavier, kaiming
    python scripts/draw_init.py init=xavier,xavier_uniform,orthogonal init.gain=2
    python scripts/draw_init.py init=all seed.init=3

init=a,b,c or init=all chooses; init.KEY=VALUE goes to those that have the key. Titles give the standard
deviation that was drawn and, where there is a formula, the expected one. All draw from the same seed,
so normal, xavier and kaiming are the same draw, scaled. figure=PATH says where the picture goes.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sweepwise import cli
from sweepwise.store.request import Request
from sweepwise.tools import figure, scripting

if TYPE_CHECKING:
    from numpy.typing import NDArray


CONF = Path(__file__).parents[1] / "conf"
FAN_IN = FAN_OUT = 100
CHINESE = {
    "zeros": "全零初始化（不推荐）",
    "constant": "常数初始化（不推荐）",
    "normal": "随机正态初始化",
    "xavier": "Xavier 初始化（Sigmoid/Tanh）",
    "kaiming": "He/Kaiming 初始化（ReLU）",
    "orthogonal": "正交初始化",
    "default": "PyTorch 默认初始化",
}
ENGLISH = {
    "zeros": "zeros (do not use)",
    "constant": "constant (do not use)",
    "xavier": "xavier (sigmoid, tanh)",
    "kaiming": "kaiming (ReLU)",
}


class Weights(NamedTuple):
    """Weights of one layer.

    Attributes:
        values: (outputs * inputs,)
        expected: their standard deviation by formula; NaN where there is none.
    """

    values: "NDArray[Any]"
    expected: float


def kaiming(options: Mapping[str, Any]) -> float:
    """Gain of the activation / sqrt(fan); both fans are the same here."""
    from torch.nn.init import calculate_gain

    return calculate_gain(options["nonlinearity"], options.get("a", 0.0)) / math.sqrt(FAN_IN)


# Standard deviation by torch's function and its options. Glorot & Bengio 2010; He et al., arXiv:1502.01852.
EXPECTED: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "zeros_": lambda options: 0.0,
    "constant_": lambda options: 0.0,
    "normal_": lambda options: options["std"],
    "xavier_normal_": lambda options: options["gain"] * math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_uniform_": lambda options: options["gain"] * math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "kaiming_normal_": kaiming,
    "kaiming_uniform_": kaiming,
    "orthogonal_": lambda options: options["gain"] / math.sqrt(max(FAN_IN, FAN_OUT)),
    "keep_": lambda options: 1 / math.sqrt(3 * FAN_IN),  # U(-1/sqrt(fan_in), 1/sqrt(fan_in))
}


def weights(request: Request) -> Weights:
    """The weights that a run's initialisation gives to the layer."""
    import torch
    from torch import nn

    from sweepwise.init import initialize_
    from sweepwise.parts import build_part
    from sweepwise.run import bind_all

    bound = bind_all(request.config)
    init, seeds = bound["init"], bound["seed"].target()
    seeds.apply()
    linear = nn.Linear(FAN_IN, FAN_OUT)
    layer = nn.Sequential(linear)
    examples = torch.randn(256, FAN_IN)
    # Not as an output layer, whose weights are smaller.
    options = {**init.envelope, "output_scale": 1.0}
    build_part("init", partial(initialize_, layer, init.target, examples, seed=seeds.init, **options))
    function, given = init.target.func, init.target.keywords
    formula = EXPECTED.get(function.__name__)
    return Weights(linear.weight.detach().numpy().ravel().copy(), formula(given) if formula else math.nan)


def draw(drawn: Mapping[str, Weights], path: Path) -> None:
    """One histogram for each initialisation."""
    rows, columns = scripting.grid(len(drawn))
    picture = figure.new(rows, columns, width=4.6, height=3.2)
    for place, (name, (values, expected)) in enumerate(drawn.items(), 1):
        axes = picture.add_subplot(rows, columns, place)
        axes.hist(values, bins=50)
        formula = (
            "" if math.isnan(expected) else figure.label("   expected ", "   理论值 ") + f"{expected:.4f}"
        )
        deviation = figure.label("std ", "标准差 ") + f"{values.std():.4f}"
        axes.locator_params(axis="x", nbins=6)
        axes.set_title(
            f"{figure.label(ENGLISH.get(name, name), CHINESE.get(name, name))}\n{deviation}{formula}"
        )
        axes.set_xlabel(figure.label("weight", "权重"))
        axes.set_ylabel(figure.label("count", "个数"))
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(
        arguments, figure="outputs/figures/draw_init.png", init="constant,normal,xavier,kaiming"
    )
    names = scripting.options(CONF, "init", own["init"])
    every = own["init"] == "all"
    compose = partial(cli.composed, conf=CONF)
    requests = scripting.beside_each_other(compose, "init", names, overrides, leave_out=every)
    drawn = scripting.each(requests, weights, leave_out=every)
    for name, (values, expected) in drawn.items():
        formula = "" if math.isnan(expected) else f"   expected {expected:.4f}"
        print(f"{name:<20}mean {values.mean():8.4f}   std {values.std():.4f}{formula}")
    draw(drawn, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
