"""Shows what initialisations do to a network before it is trained.

  python scripts/check_init.py init=zeros,normal,xavier,kaiming model=deep_tanh
  python scripts/check_init.py init=all      every option of conf/init/
  python scripts/check_init.py init=normal init.std=0.01,0.1,1.0 model=deep_tanh
  python scripts/check_init.py init=xavier   one network, layer by layer

One key may have several values, separated by commas; the others are overrides
as train.py takes them. figure=PATH sets where the picture goes, which is
outputs/figures/check_init.png else.

first loss: of the untrained network. forward: standard deviation of a layer's
outputs, behind its activation, over a batch of training examples (over a single
input it differs a little). backward: that of the gradient of one example's loss
which arrives there. first, middle and last are hidden layers. dead: ReLU units
that are 0 for all examples, in the layer with most of them; sat.: tanh or
sigmoid outputs near their limits, likewise.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.tools import figure

if TYPE_CHECKING:
    from sweepwise.diagnosis.advice import Diagnosis
    from sweepwise.store.request import Request


CONF = Path(__file__).resolve().parents[1] / "conf"
LIST = re.compile(r"[^\[\]{}()'\"]*,[^\[\]{}()'\"]*")


def main(arguments: list[str]) -> None:
    """Composes a run for each value, examines its network and shows what was seen."""
    path = Path("outputs/figures/check_init.png")
    for argument in arguments:
        if argument.startswith("figure="):
            path = Path(argument.removeprefix("figure="))
    key, variants = compositions([argument for argument in arguments if not argument.startswith("figure=")])
    requests: dict[str, Request] = {}
    refused: dict[str, UsageError] = {}
    for label, given in variants.items():
        try:
            requests[label] = cli.composed(given, CONF)
        except UsageError as error:
            if "init=all" not in arguments:  # one of all may need a key that is not given
                raise
            refused[label] = error

    from sweepwise import run
    from sweepwise.diagnosis import advice
    from sweepwise.system.console import wrapped

    starts: dict[str, Diagnosis] = {}
    for label, request in requests.items():
        try:
            starts[label] = advice.diagnose(run.build(request))
        except UsageError as error:  # an init that does not fit this network; the others may
            refused[label] = error
            continue
        if starts[label].measurements.failed:
            raise UsageError([f"{label}: the network does not run: {starts[label].measurements.failed}"])
    if not starts:
        raise next(iter(refused.values()))
    first = next(iter(starts.values()))
    choices = next(iter(requests.values())).choices
    shape = f"{len(first.measurements.hidden)} hidden layers, {first.measurements.examples} examples"
    print(f"model {choices['model']}, data {choices['data']}: {shape}")
    print(f"outputs of 0 have a loss of {first.expected_loss:.4g}, {first.expected_words}\n")
    print("\n".join(comparison(key, starts) if len(starts) > 1 else layers(first)), end="\n\n")
    indent = max(14, 1 + max(map(len, variants)))
    for label, start in starts.items():
        print(wrapped(label, "; ".join(start.complaints) or start.praise or "nothing wrong", indent))
        if start.advice:
            print(wrapped("", start.advice, indent))
    for label, reason in refused.items():
        print(wrapped(label, f"not possible: {reason}", indent))
    draw(starts, path)


def compositions(overrides: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """The key that has several values, and by value the overrides of a run.

    Raises:
        UsageError: several keys have several values.
    """
    options = ",".join(sorted(path.stem for path in (CONF / "init").glob("*.yaml")))
    given = [f"init={options}" if override == "init=all" else override for override in overrides]
    swept = [override for override in given if LIST.fullmatch(override.partition("=")[2])]
    if len(swept) > 1:
        raise UsageError([f"{' '.join(swept)}: only one key may have several values"])
    if not swept:
        chosen = [override.partition("=")[2] for override in given if override.startswith("init=")]
        return "init", {chosen[-1] if chosen else "default": given}
    key, _, values = swept[0].partition("=")
    items = [value.strip() for value in values.split(",") if value.strip()]
    if not items:
        raise UsageError([f"{swept[0]}: has no value"])
    return key, {value: [f"{key}={value}" if o == swept[0] else o for o in given] for value in items}


def comparison(key: str, starts: "Mapping[str, Diagnosis]") -> list[str]:
    """A line for each network: its loss, and first, middle and last hidden layer in both directions."""
    width = max(8, len(key), *map(len, starts))
    heads = f"{'first':>8}{'middle':>8}{'last':>8}"
    lines = [
        f"{'':<{width}} first  {'forward':^24}{'backward':^24}".rstrip(),
        f"{key:<{width}}  loss{heads}{heads} dead sat.",
    ]
    for label, start in starts.items():
        hidden = start.measurements.hidden
        shown = [hidden[0], hidden[(len(hidden) - 1) // 2], hidden[-1]] if hidden else []
        cells = [f"{layer.std:8.2g}" for layer in shown] + [f"{layer.gradient:8.2g}" for layer in shown]
        shares = [share([getattr(layer, name) for layer in hidden]) for name in ("dead", "saturated")]
        lines.append(
            f"{label:<{width}}{start.measurements.loss:6.4g}{''.join(cells) or ' ' * 48}{''.join(shares)}"
        )
    return lines


def layers(start: "Diagnosis") -> list[str]:
    """A line for each layer of one network."""
    diagnosis = start.measurements
    width = max(8, *(len(layer.name) for layer in diagnosis.layers))
    lines = [
        f"first loss {diagnosis.loss:.4g}",
        "",
        f"{'layer':<{width}}{'forward':>10}{'backward':>10}  dead  sat.",
    ]
    for layer in diagnosis.layers:
        shares = "".join(f" {share([value])}" for value in (layer.dead, layer.saturated))
        lines.append(f"{layer.name:<{width}}{layer.std:10.2g}{layer.gradient:10.2g}{shares}")
    return lines


def share(shares: Sequence[float]) -> str:
    """The greatest of the shares in percent; '-' if none is known."""
    known = [value for value in shares if not math.isnan(value)]
    return f"{max(known):5.0%}" if known else f"{'-':>5}"


def draw(starts: "Mapping[str, Diagnosis]", path: Path) -> None:
    """Draws the deviation over the depth in both directions, a line for each network."""
    names: tuple[tuple[str, str], ...] = (
        (figure.label("Forward: std of the outputs", "前向：输出的标准差"), "std"),
        (figure.label("Backward: std of the gradient", "反向：梯度的标准差"), "gradient"),
    )
    from matplotlib.ticker import MaxNLocator

    drawing = figure.new(1, 2, width=5.2, height=4.2)
    for place, (title, quantity) in enumerate(names, 1):
        axes = drawing.add_subplot(1, 2, place)
        for number, (label, start) in enumerate(starts.items()):
            sizes = np.array([getattr(layer, quantity) for layer in start.measurements.layers])
            zero = not (sizes[:-1] > 0).any()
            sizes[~(sizes > 0)] = np.nan
            style = ("o-", "s--", "^:")[number // 10 % 3]
            shown = f"{label} {figure.label('(all 0)', '（全为 0）')}" if zero else label
            axes.plot(np.arange(1, len(sizes) + 1), sizes, style, markersize=3, label=shown)
        axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel(figure.label("layer; the last one is the output", "层（最后一层为输出层）"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    drawing.legend(
        *drawing.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    figure.finish(drawing, path)


if __name__ == "__main__":
    cli.script(main, __doc__)
