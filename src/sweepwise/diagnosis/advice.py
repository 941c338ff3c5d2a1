"""Says in words what the measurements of a network mean, and advises what helps, after trying it."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from sweepwise.data import Data
from sweepwise.diagnosis.measure import Layer, Measurements, examine, examples_for
from sweepwise.init import initialize_
from sweepwise.parts import EXAMPLES, Parts
from sweepwise.seed import same_generators_after

# With Kaiming's full scale on the output layer, the loss of ten classes starts at 3.17, 1.38 times ln(10);
# the first epochs then only shrink the outputs.
HIGH_LOSS = 1.25
# Two examples' squared distance, and a squared gradient, change by a constant factor a layer, and networks
# were found to train up to a depth where that makes e^-6: a deviation to e^-3, a twentieth (Schoenholz et
# al., Deep Information Propagation, arXiv:1611.01232, section 5; the recursion: Poole et al.,
# arXiv:1606.05340). Ten tanh layers on digits agree: accuracy .91 after 15 epochs if the signal comes
# through to a tenth, .73 if to a hundredth.
FADED = math.exp(-3)
KEPT = math.exp(-1)
MAX_SHARE = 0.5  # of a layer's units that are dead, or of its outputs that are saturated
SMALL_OUTPUT = 0.1  # `initialize_`'s own output_scale

Initialize = Callable[..., Any]
# As conf/init/ has them. A tanh or sigmoid network is offered Xavier first, any other Kaiming.
SCHEMES: dict[str, Callable[..., torch.Tensor]] = {
    "init=xavier": nn.init.xavier_normal_,
    "init=kaiming": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "init=orthogonal": nn.init.orthogonal_,
    "init=xavier init.gain=1.667": partial(nn.init.xavier_normal_, gain=1.667),
    "init=orthogonal init.gain=1.414": partial(nn.init.orthogonal_, gain=1.414),
}


@dataclass(frozen=True)
class Diagnosis:
    """What is known about a network before its first step.

    Attributes:
        measurements: what was measured.
        expected_loss: the loss if all outputs are 0.
        expected_words: that loss in words: ln(classes), or the variance of the training targets.
        constant_loss: the loss of the best constant output: the entropy of the class frequencies in nats.
        complaints: what is wrong, in words.
        advice: what helps, if something is wrong.
    """

    measurements: Measurements
    expected_loss: float
    expected_words: str
    constant_loss: float
    complaints: Sequence[str]
    advice: str = ""

    @property
    def praise(self) -> str:
        """How well the signal keeps its size; '' with fewer than two hidden layers."""
        hidden = self.measurements.hidden
        factors = forward_factor(self.measurements), backward_factor(self.measurements)
        if not all(factors):
            return ""
        ends = [factor ** (len(hidden) - 1) for factor in factors]
        if all(KEPT <= end <= 1 / KEPT for end in ends):
            return f"keeps its size through {len(hidden)} hidden layers"
        return f"passes {len(hidden)} hidden layers: x {ends[0]:.2g} forwards, x {ends[1]:.2g} backwards"

    def table(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return {
            **self.measurements.table(),
            "expected_loss": self.expected_loss,
            "complaints": list(self.complaints),
            "advice": self.advice,
        }


def diagnose(parts: Parts) -> Diagnosis:
    """Examines a run's network on training examples; tries what helps if something is wrong."""
    expected, constant = expected_losses(parts.data)
    measured = _examine(parts, parts.model)
    wrong = complaints(measured, expected)
    advice = _advice(parts, expected) if wrong else ""
    classes = parts.data.classes
    words = f"ln({classes})" if classes else "the variance of the targets"
    return Diagnosis(measured, expected, words, constant, wrong, advice)


def _examine(parts: Parts, model: nn.Module) -> Measurements:
    return examine(model, parts.task.loss, *parts.sample(examples_for(math.prod(parts.data.features))))


def expected_losses(data: Data) -> tuple[float, float]:
    """The loss if all outputs are 0, and the loss of the best constant output, on the training part."""
    targets = data.train.y
    if not data.classes:
        variance = targets.double().var(correction=0).item()
        return targets.double().square().mean().item(), variance
    shares = torch.bincount(targets, minlength=data.classes).double() / len(targets)
    return math.log(data.classes), -torch.special.xlogy(shares, shares).sum().item()


def complaints(measured: Measurements, expected_loss: float) -> list[str]:
    """What is wrong with a network, in words; empty if nothing is, or if it could not be examined."""
    if measured.failed:
        return []
    if not math.isfinite(measured.loss):
        return [f"the first loss is {measured.loss}: not finite from {measured.first_bad} on"]
    faults = []
    if measured.loss > HIGH_LOSS * expected_loss > 0:  # 0: targets that are all the same
        faults.append(
            f"the first loss is {measured.loss / expected_loss:.2g} times that of outputs of 0: the first "
            "steps will only shrink the outputs"
        )
    hidden = measured.hidden
    equal = [layer.name for layer in hidden if layer.equal and layer.received > 0]
    if equal:
        return [*faults, f"all units of {equal[0]} are equal: they get equal gradients and stay equal"]
    return faults + _forwards(measured) + _backwards(hidden) + _units(hidden)


def _forwards(measured: Measurements) -> list[str]:
    """What is wrong forwards: the examples must still differ when the signal reaches the output layer."""
    if len(measured.hidden) < 2:
        return []
    first, *later = measured.hidden
    if not first.between > 0:
        return []
    # Inside a residual branch the signal may be small: what counts is what arrives at the output layer.
    arrives = [later[-1].between / first.between, measured.layers[-1].received / first.between]
    if max(arrives) < FADED:
        start = _last_run([layer.between < FADED * first.between for layer in later])
        alike = later[start].std > FADED * first.std
        where = _position(measured, later[start])
        if alike:
            return [f"all examples look alike from {where} on"]
        return [f"activations vanish from {where} on"]
    if min(arrives) > 1 / FADED:
        start = _last_run([layer.between > first.between / FADED for layer in later])
        return [f"activations explode from {_position(measured, later[start])} on"]
    return []


def _backwards(hidden: Sequence[Layer]) -> list[str]:
    """What is wrong backwards: the gradients of the first and the last hidden layer must be comparable."""
    if len(hidden) < 2 or not hidden[-1].gradient_norm > 0:
        return []
    ratio = hidden[0].gradient_norm / hidden[-1].gradient_norm
    if FADED <= ratio <= 1 / FADED or math.isnan(ratio):
        return []
    change = ratio ** (1 / (len(hidden) - 1))
    return [f"gradients {'vanish' if ratio < 1 else 'explode'} towards the input (x {change:.2g} a layer)"]


def _units(hidden: Sequence[Layer]) -> list[str]:
    """What is wrong with units: too many are dead or saturated."""
    faults = []
    dead = max(hidden, key=lambda layer: _or_negative(layer.dead), default=None)
    if dead and dead.dead > MAX_SHARE:
        faults.append(f"{dead.dead:.0%} of the units of {dead.name} are dead: 0 for every example")
    saturated = max(hidden, key=lambda layer: _or_negative(layer.saturated), default=None)
    if saturated and saturated.saturated > MAX_SHARE:
        faults.append(f"{saturated.saturated:.0%} of the outputs of {saturated.name} are saturated")
    return faults


def _or_negative(share: float) -> float:
    return -1.0 if math.isnan(share) else share


def _last_run(flags: Sequence[bool]) -> int:
    """Where the last unbroken row of True begins."""
    start = len(flags)
    while start and flags[start - 1]:
        start -= 1
    return min(start, len(flags) - 1)


def _position(measured: Measurements, layer: Layer) -> str:
    return f"{layer.name} (layer {measured.layers.index(layer) + 1} of {len(measured.layers)})"


def _advice(parts: Parts, expected: float) -> str:
    """The first initialisation with which nothing is wrong with this model; each is tried on a copy of it."""
    examples, _ = parts.sample(EXAMPLES)
    if not torch.isfinite(examples).all():
        return "the training examples contain values that are not finite; remove or replace these"
    for text, initialize in _candidates(parts):
        try:
            model = copy.deepcopy(parts.model)
            with same_generators_after(examples.device):
                initialize(model, examples=examples, seed=parts.seeds.init)
        except Exception:  # a scheme that cannot fill this model is no candidate
            continue
        measured = _examine(parts, model)
        if not measured.failed and not complaints(measured, expected):
            kept = f", x {change:.2g} a layer" if (change := forward_factor(measured)) else ""
            return f"{text} helps (tried: first loss {measured.loss:.4g}{kept})"
    tried = ", ".join(dict.fromkeys(text.split()[0].removeprefix("init=") for text in SCHEMES))
    return f"none of {tried} helps (tried); normalisation between the layers (model.norm) may help"


def _candidates(parts: Parts) -> Iterator[tuple[str, Initialize]]:
    """What to try: its command-line overrides and the initialisation."""
    scale = getattr(parts.initialize, "keywords", {}).get("output_scale")
    smaller = f"init.output_scale={SMALL_OUTPUT:g}"
    if scale is not None and scale > SMALL_OUTPUT:
        yield smaller, partial(parts.initialize, output_scale=SMALL_OUTPUT)
    bounded = any(isinstance(module, nn.Tanh | nn.Sigmoid) for module in parts.model.modules())
    for text in sorted(SCHEMES, key=lambda text: bounded != text.startswith("init=xavier")):
        initialize = partial(initialize_, scheme=SCHEMES[text])
        if scale is None or scale == SMALL_OUTPUT:
            yield text, initialize
        else:
            yield text, partial(initialize, output_scale=scale)
            if scale > SMALL_OUTPUT:
                yield f"{text} {smaller}", initialize


def forward_factor(measured: Measurements) -> float:
    """The mean factor of the spread between examples from one hidden layer to the next; 0: unknown."""
    return factor([layer.between for layer in measured.hidden])


def backward_factor(measured: Measurements) -> float:
    """The mean factor of the gradient norm from one hidden layer to the one before; 0: unknown."""
    return factor([layer.gradient_norm for layer in reversed(measured.hidden)])


def factor(sizes: Sequence[float]) -> float:
    """The geometric mean of the factors from each size to the next; 0: unknown."""
    if len(sizes) < 2 or not sizes[0] > 0 or not sizes[-1] > 0:
        return 0.0
    return (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1))


def start_lines(start: Diagnosis) -> list[tuple[str, str]]:
    """What is printed about a network before its training: first loss, signal, and what is wrong."""
    measured = start.measurements
    if measured.failed:
        return [("signal", f"not examined: {measured.failed}")]
    zero = f"outputs of 0 have {start.expected_loss:.4g}, {start.expected_words}"
    if start.constant_loss < 0.98 * start.expected_loss:
        zero += f"; the class frequencies alone {start.constant_loss:.4g}"
    lines = [("first loss", f"{measured.loss:.4g}; {zero}")]
    hidden = measured.hidden
    if len(hidden) > 1 and math.isfinite(measured.loss):
        lines.append(("forward", "std " + _passage([(layer.name, layer.std) for layer in hidden])))
        back = [(layer.name, layer.gradient) for layer in reversed(hidden)]
        lines.append(("backward", "std " + _passage(back)))
    if start.complaints:
        lines.append(("signal", "; ".join(start.complaints)))
        lines.append(("advice", start.advice))
    elif start.praise:
        lines.append(("signal", start.praise))
    return lines


def _passage(layers: Sequence[tuple[str, float]]) -> str:
    """The first size, the last one, and the mean factor per layer."""
    (start, first), (end, last) = layers[0], layers[-1]
    change = (last / first) ** (1 / (len(layers) - 1)) if first > 0 else 0.0
    return f"{first:.2g} in {start} -> {last:.2g} in {end}" + (f", x {change:.2g} a layer" if change else "")
