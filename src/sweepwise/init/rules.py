"""How each layer is initialised, by the type of the module, never by the name of a parameter.

`rule(module)` returns what fills each of a module's own parameters. You can register a rule for a layer of
your own; a subclass inherits the rule of its parent:

    @rule.register
    def _(module: MyLayer) -> dict[str, Fill]:
        return {"weight": by_scheme(), "gain": ONES}
"""

from collections.abc import Callable, Iterable
from functools import singledispatch
from typing import NamedTuple

from torch import Generator, Tensor, nn

Draw = Callable[[Tensor], object]
Blocks = Callable[[Tensor], Iterable[Tensor]]


class Fill(NamedTuple):
    """What fills one parameter.

    Attributes:
        how: description for the record, with '{scheme}' for the name of the scheme.
        write: fills a contiguous copy of the parameter in place, given the scheme and the generator.
        by_scheme: whether the scheme decides the values.
    """

    how: str
    write: Callable[[Tensor, Draw, Generator], object]
    by_scheme: bool = False

    def as_output(self, scale: float) -> "Fill":
        """The same values times `scale`, for the output layer."""

        def write(value: Tensor, scheme: Draw, generator: Generator) -> None:
            self.write(value, scheme, generator)
            value.mul_(scale)

        return self._replace(how=f"{self.how} x {scale:g} (output layer)", write=write)


AS_BUILT = Fill("as built", lambda value, scheme, generator: None)
ZEROS = Fill("zeros", lambda value, scheme, generator: value.zero_())
ONES = Fill("ones", lambda value, scheme, generator: value.fill_(1))


def by_scheme(blocks: Blocks = lambda value: [value], per: str = "") -> Fill:
    """Fills each block of a weight, a view of shape (out, in, *kernel), by the scheme."""

    def write(value: Tensor, scheme: Draw, generator: Generator) -> None:
        _draw_blocks(blocks(value), scheme)

    return Fill("{scheme}" + per, write, by_scheme=True)


def orthogonal(blocks: Blocks, per: str) -> Fill:
    """Fills each block of a weight with an orthogonal matrix, whatever the scheme."""

    def write(value: Tensor, scheme: Draw, generator: Generator) -> None:
        _draw_blocks(blocks(value), lambda block: nn.init.orthogonal_(block, generator=generator))

    return Fill("orthogonal_" + per, write)


def _draw_blocks(blocks: Iterable[Tensor], draw: Draw) -> None:
    for block in blocks:
        drawn = block.contiguous()  # torch's orthogonal_ refuses a transposed view
        draw(drawn)
        block.copy_(drawn)


@singledispatch
def rule(module: nn.Module) -> dict[str, Fill]:
    """What fills each of the module's own parameters, by name; one without an entry stays as built."""
    return {}


@rule.register
def _linear(module: nn.Linear) -> dict[str, Fill]:
    return {"weight": by_scheme(), "bias": ZEROS}


@rule.register
def _bilinear(module: nn.Bilinear) -> dict[str, Fill]:
    # A linear map of the products x1_i x2_j: fan_in = in1 in2, fan_out = out.
    return {"weight": by_scheme(lambda weight: [weight.flatten(1)]), "bias": ZEROS}


@rule.register
def _convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> dict[str, Fill]:
    # Groups are convolutions side by side; torch's fan_out for all of them together is too large.
    return {"weight": by_scheme(lambda weight: weight.chunk(module.groups)), "bias": ZEROS}


@rule.register
def _transposed(module: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> dict[str, Fill]:
    # torch stores (in, out / groups, *kernel), from which its init functions would read the fans swapped.
    def blocks(weight: Tensor) -> Iterable[Tensor]:
        return [group.transpose(0, 1) for group in weight.chunk(module.groups)]

    return {"weight": by_scheme(blocks), "bias": ZEROS}


@rule.register
def _norm(
    module: nn.BatchNorm1d
    | nn.BatchNorm2d
    | nn.BatchNorm3d
    | nn.SyncBatchNorm
    | nn.InstanceNorm1d
    | nn.InstanceNorm2d
    | nn.InstanceNorm3d
    | nn.LayerNorm
    | nn.GroupNorm
    | nn.RMSNorm,
) -> dict[str, Fill]:
    return {"weight": ONES, "bias": ZEROS}


@rule.register
def _embedding(module: nn.Embedding | nn.EmbeddingBag) -> dict[str, Fill]:
    padding = [] if module.padding_idx is None else [module.padding_idx]

    def write(value: Tensor, scheme: Draw, generator: Generator) -> None:
        value.normal_(generator=generator)[padding] = 0

    return {"weight": Fill("normal_(0, 1)" + "".join(f", row {row} zero" for row in padding), write)}


@rule.register
def _recurrent(module: nn.RNNBase | nn.RNNCellBase) -> dict[str, Fill]:
    def gates(weight: Tensor) -> Iterable[Tensor]:
        return weight.split(module.hidden_size)

    kinds = {
        "weight_ih": by_scheme(gates, " per gate"),
        "weight_hh": orthogonal(gates, " per gate"),
        "weight_hr": by_scheme(),
        "bias_ih": ZEROS,
        "bias_hh": ZEROS,
    }
    # The kind of 'weight_ih_l0_reverse' is 'weight_ih', whatever its layer and direction.
    return {
        name: fill for name in module._parameters for kind, fill in kinds.items() if name.startswith(kind)
    }


@rule.register
def _lstm(module: nn.LSTM | nn.LSTMCell) -> dict[str, Fill]:
    def write(value: Tensor, scheme: Draw, generator: Generator) -> None:
        value.zero_().chunk(4)[1].fill_(1)  # torch's order of gates: input, forget, cell, output

    biases = [name for name in module._parameters if name.startswith("bias_ih")]
    return _recurrent(module) | dict.fromkeys(biases, Fill("zeros, forget gate 1", write))


@rule.register
def _attention(module: nn.MultiheadAttention) -> dict[str, Fill]:
    return {
        "in_proj_weight": by_scheme(lambda weight: weight.chunk(3), " per q, k, v"),
        **dict.fromkeys(("q_proj_weight", "k_proj_weight", "v_proj_weight"), by_scheme()),
        **dict.fromkeys(("in_proj_bias", "bias_k", "bias_v"), ZEROS),
    }


@rule.register
def _prelu(module: nn.PReLU) -> dict[str, Fill]:
    return {"weight": AS_BUILT._replace(how=f"as built ({module.init:g})")}


def plan(
    model: nn.Module, rule: Callable[[nn.Module], dict[str, Fill]], output_scale: float
) -> dict[nn.Parameter, Fill]:
    """What fills each parameter of a model.

    A tied parameter follows the last module that has it and a rule for it: an embedding that is also the
    head's weight starts as the head's weight. The output layer is the last module with a weight filled by
    the scheme.
    """
    fills: dict[nn.Parameter, Fill] = {}
    output: list[nn.Parameter] = []
    for module in model.modules():
        ruled = rule(module)
        own = dict(module.named_parameters(recurse=False))
        for name, parameter in own.items():
            unruled = AS_BUILT._replace(how=f"as built: no rule for {type(module).__name__}.{name}")
            fills[parameter] = ruled.get(name) or fills.get(parameter, unruled)
        output = [own[name] for name, fill in ruled.items() if fill.by_scheme and name in own] or output
    return fills | {weight: fills[weight].as_output(output_scale) for weight in output}
