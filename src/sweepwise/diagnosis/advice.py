"""What an examined network's numbers mean, in words, and what would help: tried before it is said."""

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

# Kaiming's full scale on the output layer starts ten classes at 3.17, 1.38 times ln(10); the first epochs
# then go into shrinking the outputs.
HIGH_LOSS = 1.25
# Two examples' squared distance, and a squared gradient, change by a constant factor a layer, and networks
# were found to train up to a depth where that makes e^-6: a deviation to e^-3, a twentieth (Schoenholz et
# al., Deep Information Propagation, arXiv:1611.01232, section 5; the recursion: Poole et al.,
# arXiv:1606.05340). Ten tanh layers on digits agree: accuracy .91 after 15 epochs if the signal comes
# through to a tenth, .73 if to a hundredth.
FADED = math.exp(-3)
KEPT = math.exp(-1)
MOST = 0.5  # of a layer's units that are dead, or of its outputs that are saturated
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
    """What is known of a run before its first step.

    Attributes:
        diagnosis: the measurements.
        expected_loss: of outputs that are 0.
        expected_words: what that is: ln(classes), or the variance of the training targets.
        constant_loss: what the best constant output reaches: the entropy of the class frequencies in nats.
        complaints: what is wrong, in words.
        advice: what helps, if something is wrong.
    """

    diagnosis: Measurements
    expected_loss: float
    expected_words: str
    constant_loss: float
    complaints: Sequence[str]
    advice: str = ""

    @property
    def praise(self) -> str:
        """How well the signal is kept where nothing is wrong; '' with fewer than two hidden layers."""
        hidden = self.diagnosis.hidden
        changes = forward_factor(self.diagnosis), backward_factor(self.diagnosis)
        if not all(changes):
            return ""
        ends = [change ** (len(hidden) - 1) for change in changes]
        if all(KEPT <= end <= 1 / KEPT for end in ends):
            return f"keeps its size through {len(hidden)} hidden layers"
        return f"passes {len(hidden)} hidden layers: x {ends[0]:.2g} forwards, x {ends[1]:.2g} backwards"

    def table(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return {
            **self.diagnosis.table(),
            "expected_loss": self.expected_loss,
            "complaints": list(self.complaints),
            "advice": self.advice,
        }


def diagnose(parts: Parts) -> Diagnosis:
    """Examines the network of a run on training examples, and tries what would help; changes nothing."""
    expected, constant = expected_losses(parts.data)
    found = _examined(parts, parts.model)
    wrong = complaints(found, expected)
    advice = _advice(parts, expected, wrong) if wrong else ""
    classes = parts.data.classes
    words = f"ln({classes})" if classes else "the variance of the targets"
    return Diagnosis(found, expected, words, constant, wrong, advice)


def _examined(parts: Parts, model: nn.Module) -> Measurements:
    return examine(model, parts.task.loss, *parts.sample(examples_for(math.prod(parts.data.features))))


def expected_losses(data: Data) -> tuple[float, float]:
    """The loss of outputs that are 0, and that of the best constant output, over the training part."""
    targets = data.train.y
    if not data.classes:
        variance = targets.double().var(correction=0).item()
        return targets.double().square().mean().item(), variance
    shares = torch.bincount(targets, minlength=data.classes).double() / len(targets)
    return math.log(data.classes), -torch.special.xlogy(shares, shares).sum().item()


def complaints(found: Measurements, expected_loss: float) -> list[str]:
    """What is wrong with a network that was examined, in words; nothing if it is fine or was not seen."""
    if found.failed:
        return []
    if not math.isfinite(found.loss):
        where = found.first_bad
        return [f"the first loss is {found.loss}: not finite from {where} on"]
    said = []
    if found.loss > HIGH_LOSS * expected_loss > 0:  # 0: targets that are all the same
        said.append(
            f"the first loss is {found.loss / expected_loss:.2g} times that of outputs of 0: the first steps "
            "will only shrink the outputs"
        )
    hidden = found.hidden
    equal = [layer.name for layer in hidden if layer.equal and layer.received > 0]
    if equal:
        return [*said, f"all units of {equal[0]} are equal: the symmetry is never broken"]
    return said + _forwards(found) + _backwards(hidden) + _units(hidden)


def _forwards(found: Measurements) -> list[str]:
    """Whether the examples can still be told apart when the signal comes to the output layer."""
    if len(found.hidden) < 2:
        return []
    first, *later = found.hidden
    if not first.between > 0:
        return []
    # Inside a residual branch the signal may be as small as it likes: what counts is what arrives.
    arrives = [later[-1].between / first.between, found.layers[-1].received / first.between]
    if max(arrives) < FADED:
        start = _last_run([layer.between < FADED * first.between for layer in later])
        alike = later[start].std > FADED * first.std
        where = _place(found, later[start])
        if alike:
            return [f"all examples look alike from {where} on"]
        return [f"activations vanish from {where} on"]
    if min(arrives) > 1 / FADED:
        start = _last_run([layer.between > first.between / FADED for layer in later])
        return [f"activations explode from {_place(found, later[start])} on"]
    return []


def _backwards(hidden: Sequence[Layer]) -> list[str]:
    """Whether the first layer learns at a rate comparable to the last hidden one's."""
    if len(hidden) < 2 or not hidden[-1].gradient_norm > 0:
        return []
    ratio = hidden[0].gradient_norm / hidden[-1].gradient_norm
    if FADED <= ratio <= 1 / FADED or math.isnan(ratio):
        return []
    change = ratio ** (1 / (len(hidden) - 1))
    return [f"gradients {'vanish' if ratio < 1 else 'explode'} towards the input (x {change:.2g} a layer)"]


def _units(hidden: Sequence[Layer]) -> list[str]:
    said = []
    dead = max(hidden, key=lambda layer: _known(layer.dead), default=None)
    if dead and dead.dead > MOST:
        said.append(f"{dead.dead:.0%} of the units of {dead.name} are dead: 0 for every example")
    saturated = max(hidden, key=lambda layer: _known(layer.saturated), default=None)
    if saturated and saturated.saturated > MOST:
        said.append(f"{saturated.saturated:.0%} of the outputs of {saturated.name} are saturated")
    return said


def _known(share: float) -> float:
    return -1.0 if math.isnan(share) else share


def _last_run(flags: Sequence[bool]) -> int:
    """Where the last unbroken row of True begins."""
    start = len(flags)
    while start and flags[start - 1]:
        start -= 1
    return min(start, len(flags) - 1)


def _place(found: Measurements, layer: Layer) -> str:
    return f"{layer.name} (layer {found.layers.index(layer) + 1} of {len(found.layers)})"


def _advice(parts: Parts, expected: float, wrong: Sequence[str]) -> str:
    """An initialisation under which nothing is wrong with this very model, found by trying."""
    examples, _ = parts.sample(EXAMPLES)
    if not torch.isfinite(examples).all():
        return "the training examples hold values that are not finite"
    for text, initialize in _candidates(parts):
        try:
            model = copy.deepcopy(parts.model)
            with same_generators_after(examples.device):
                initialize(model, examples=examples, seed=parts.seeds.init)
        except Exception:  # a scheme that cannot fill this model is no candidate
            continue
        found = _examined(parts, model)
        if not found.failed and not complaints(found, expected):
            kept = f", x {change:.2g} a layer" if (change := forward_factor(found)) else ""
            return f"{text} helps (tried: first loss {found.loss:.4g}{kept})"
    tried = ", ".join(dict.fromkeys(text.split()[0].removeprefix("init=") for text in SCHEMES))
    return f"none of {tried} helps (tried); normalisation between the layers (model.norm) may"


def _candidates(parts: Parts) -> Iterator[tuple[str, Initialize]]:
    """What to try, as it would be said on the command line."""
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


def forward_factor(found: Measurements) -> float:
    """By what the spread between the examples changes from one hidden layer to the next; 0: not known."""
    return factor([layer.between for layer in found.hidden])


def backward_factor(found: Measurements) -> float:
    """By what the norm of the gradient changes from one hidden layer to the one before; 0: not known."""
    return factor([layer.gradient_norm for layer in reversed(found.hidden)])


def factor(sizes: Sequence[float]) -> float:
    """By what sizes change from one to the next, in the geometric mean; 0: not known."""
    if len(sizes) < 2 or not sizes[0] > 0 or not sizes[-1] > 0:
        return 0.0
    return (sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1))


def start_lines(start: "Diagnosis") -> list[tuple[str, str]]:
    """How a network starts: its first loss, the signal through its hidden layers and what is wrong."""
    found = start.diagnosis
    if found.failed:
        return [("signal", f"not examined: {found.failed}")]
    zero = f"outputs of 0 have {start.expected_loss:.4g}, {start.expected_words}"
    if start.constant_loss < 0.98 * start.expected_loss:
        zero += f"; the class frequencies alone {start.constant_loss:.4g}"
    lines = [("first loss", f"{found.loss:.4g}; {zero}")]
    hidden = found.hidden
    if len(hidden) > 1 and math.isfinite(found.loss):
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
    """From the first size to the last, and by what factor a layer."""
    (start, first), (end, last) = layers[0], layers[-1]
    change = (last / first) ** (1 / (len(layers) - 1)) if first > 0 else 0.0
    return f"{first:.2g} in {start} -> {last:.2g} in {end}" + (f", x {change:.2g} a layer" if change else "")
