"""Weight initialisation: applies a scheme of `torch.nn.init` to the weights, by the type of each layer."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sweepwise.config.calling import takes
from sweepwise.config.ranges import Range
from sweepwise.init import rules

NO_EXAMPLES = torch.empty(0)


def initialize_(
    model: nn.Module,
    scheme: Callable[..., Tensor],
    examples: Tensor = NO_EXAMPLES,
    *,
    seed: int,
    output_scale: Annotated[float, Range(0)] = 0.1,
) -> dict[str, str]:
    """Initialises every parameter in place; returns how.

    | module | weights | others |
    |---|---|---|
    | Linear, Bilinear | scheme | bias 0 |
    | Conv, ConvTranspose | scheme per group, with the fans of the map (stride not counted) | bias 0 |
    | BatchNorm, LayerNorm, GroupNorm, InstanceNorm, RMSNorm, SyncBatchNorm | gain 1 | bias 0 |
    | Embedding, EmbeddingBag | N(0, 1), padding row 0: a lookup has fan_in 1 | |
    | RNN, GRU, LSTM and their cells | input and projection by the scheme, recurrent orthogonal, per gate | \
biases 0, forget gate of an LSTM b_ih 1 and b_hh 0 |
    | MultiheadAttention | scheme for each of q, k, v; out_proj is a Linear | biases 0 |
    | PReLU | slope as built | |
    | any other | as built, and the record says that there is no rule | |

    The output layer is the last module, in order of registration, with a weight by the scheme. Its weights
    are `output_scale` times the scheme's, so that a classifier starts near a cross-entropy of ln(classes). A
    tied parameter follows the last of its modules that has a rule.

    Args:
        model: may be on any device; values are drawn on the CPU, so they are the same everywhere.
        scheme: a function of `torch.nn.init` with its options bound. It gets tensors of shape
            (out, in, *kernel) and, if it takes one, a `generator`. It may have a function `rule` that
            replaces `rules.rule`, and a function `complete_(model, examples, generator)` that is called once
            all parameters are filled, and returns how it changed which. A class is instantiated first; its
            object must have `__call__`.
        examples: (examples, *features) of the training part, for a scheme that needs data.
        seed: of the generator that all values are drawn from; torch's global generator is not used.
        output_scale: factor on the weights of the output layer, [0, inf).

    Returns:
        How each parameter was filled, by its name (a tied one's first name).

    Raises:
        ValueError: a parameter has no values yet, the scheme cannot fill a parameter, or it drew from torch's
            global generator.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks
    (PMLR 9, 2010). He, Zhang, Ren & Sun, Delving Deep into Rectifiers (arXiv:1502.01852). Saxe, McClelland &
    Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural networks
    (arXiv:1312.6120). Jozefowicz, Zaremba & Sutskever, An Empirical Exploration of Recurrent Network
    Architectures (PMLR 37, 2015).

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> initialize_(model, nn.init.ones_, seed=0)["2.weight"]
        'ones_ x 0.1 (output layer)'
        >>> model[0].weight.sum().item(), model[0].bias.tolist(), model[2].weight.detach()
        (6.0, [0.0, 0.0, 0.0], tensor([[0.1000, 0.1000, 0.1000]]))
    """
    named = dict(model.named_parameters())
    for name, parameter in named.items():
        if is_lazy(parameter) or parameter.is_meta:
            raise ValueError(
                f"{name} must have values before it is initialised: pass one batch through a model with "
                "lazy layers, and move a model off the meta device with `to_empty`"
            )
    if inspect.isclass(getattr(scheme, "func", scheme)):
        scheme = scheme()  # type: ignore[assignment]  # its objects have __call__
    function = getattr(scheme, "func", scheme)  # below the options bound to it
    scheme_name = getattr(function, "__name__", type(function).__name__)
    plan = rules.plan(model, getattr(function, "rule", rules.rule), output_scale)

    generator = torch.Generator("cpu").manual_seed(seed)
    takes_generator = "generator" in takes(scheme)
    draw = partial(scheme, generator=generator) if takes_generator else scheme
    global_state = torch.get_rng_state()
    for name, parameter in named.items():
        try:
            _fill_(parameter, plan[parameter], draw, generator)
        except Exception as error:
            raise ValueError(
                f"init {scheme_name} cannot fill {name} {tuple(parameter.shape)}: {error}. Choose another "
                "init or options that fit"
            ) from error
    filled = {name: plan[parameter].how.replace("{scheme}", scheme_name) for name, parameter in named.items()}
    if hasattr(function, "complete_"):
        filled |= function.complete_(model, examples, generator)
    if not torch.equal(torch.get_rng_state(), global_state):
        raise ValueError(
            f"init {scheme_name} must not draw from torch's global generator, as `seed` would not decide its "
            "values: give it a parameter `generator` and draw from that"
        )
    return filled


@torch.no_grad()
def _fill_(parameter: Tensor, fill: rules.Fill, draw: rules.Draw, generator: torch.Generator) -> None:
    # orthogonal_ has no kernel for half precision, and a draw must not depend on the layout in memory.
    at_least_float32 = torch.promote_types(parameter.dtype, torch.float32)
    value = parameter.detach().to("cpu", at_least_float32).clone(memory_format=torch.contiguous_format)
    fill.write(value, draw, generator)
    parameter.copy_(value)
