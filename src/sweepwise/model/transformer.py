"""A small transformer encoder."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.model.activation import ACTIVATIONS, Activation
from sweepwise.model.pooling import Mean


@checked("model")
def transformer(
    features: Sequence[int],
    outputs: int,
    *,
    patch: Annotated[int, Range(1)] = 1,
    width: Annotated[int, Range(1)] = 64,
    heads: Annotated[int, Range(1)] = 4,
    layers: Annotated[int, Range(1, 10_000)] = 2,
    mlp_ratio: Annotated[float, Range(0, open_low=True)] = 2.0,
    activation: Activation = "gelu",
    positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal",
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
) -> nn.Sequential:
    """Patches become tokens; pre-norm attention and mlp blocks; norm, mean over tokens, a linear layer.

    Args:
        features: shape of one example: (length,), (channels, length) or (channels, height, width).
        outputs: classes, or 1 for regression.
        patch: values of a token in each channel; of an image, the side of a square. Divides every length.
        width: of a token, a multiple of `heads`; even with sinusoidal positions.
        heads: of each attention, >= 1.
        layers: blocks, >= 1.
        mlp_ratio: hidden width of the mlp in a block over `width`, > 0.
        activation: in the mlp.
        positions: what is added to tokens for their positions: sines, a learned vector, or nothing, so that
            their order does not matter.
        dropout: probability in [0, 1) after the positions, each attention and each mlp.

    Returns:
        x: (batch, *features) -> logits or predictions: (batch, outputs).

    Raises:
        ValueError: patches do not fit the data, or heads the width.

    Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762. Dosovitskiy et al., An Image is Worth
    16x16 Words, arXiv:2010.11929, section 3.1. Norm first: Xiong et al., arXiv:2002.04745.
    """
    tokens, values = _tokens(features, patch)
    if width % heads:
        raise ValueError(f"model.width={width}: must be a multiple of model.heads={heads}")
    hidden = max(1, round(width * mlp_ratio))
    stack: OrderedDict[str, nn.Module] = OrderedDict()
    stack["patches"] = Patches(features, patch)
    stack["embed"] = nn.Linear(values, width)
    if positions == "learned":
        stack["positions"] = Learned(tokens, width)
    elif positions == "sinusoidal":
        stack["positions"] = Sinusoidal(tokens, width)
    stack["dropout"] = nn.Dropout(dropout)
    for number in range(layers):
        stack[f"block{number}"] = Block(width, heads, hidden, activation, dropout)
    stack["norm"] = nn.LayerNorm(width)
    stack["pool"] = Mean()
    stack["output"] = nn.Linear(width, outputs)
    return nn.Sequential(stack)


def _tokens(features: Sequence[int], patch: int) -> tuple[int, int]:
    """The number of tokens of an example, and of values of a token."""
    if not 1 <= len(features) <= 3:
        raise ValueError(
            "model=transformer: needs (length,), (channels, length) or (channels, height, width), the data "
            f"has {tuple(features)}; use model=mlp"
        )
    sides = features[1:] or features
    if any(side % patch for side in sides):
        raise ValueError(
            f"model.patch={patch}: must divide {' and '.join(map(str, sides))}, so be one of "
            + ", ".join(str(size) for size in range(1, min(sides) + 1) if not any(s % size for s in sides))
        )
    tokens = math.prod(side // patch for side in sides)
    return tokens, math.prod(features) // tokens


class Patches(nn.Module):
    """Cuts examples into tokens, row by row; a token has all channels of its patch.

    x: (batch, *features) -> (batch, tokens, values).
    """

    def __init__(self, features: Sequence[int], patch: int) -> None:
        super().__init__()
        sides = features[1:] or features
        self._shape = [features[0] if len(features) > 1 else 1]
        for side in sides:
            self._shape += [side // patch, patch]
        counts = range(2, 2 + 2 * len(sides), 2)  # the axes that count patches
        self._order = [0, *counts, 1, *(axis + 1 for axis in counts)]
        self._sides = len(sides)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        cut = x.reshape(len(x), *self._shape).permute(self._order)
        return cut.flatten(1, self._sides).flatten(2)


class Learned(nn.Embedding):
    """Adds to each token a learned vector for its position."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, tokens, width), unchanged in shape."""
        return x + self.weight


class Sinusoidal(nn.Module):
    """Adds sin(position / 10000^(2i / width)) to value 2i of each token, and the cosine to value 2i + 1."""

    table: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"model.width={width}: must be even with model.positions=sinusoidal")
        angles = torch.arange(tokens)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        table = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, tokens, width), unchanged in shape."""
        return x + self.table


class Block(nn.Module):
    """Attention, then an mlp on each token; each on normed tokens and added to them.

    x: (batch, tokens, width), unchanged in shape.
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.dropout0 = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(width)
        mlp: OrderedDict[str, nn.Module] = OrderedDict()
        mlp["linear0"] = nn.Linear(width, hidden)
        mlp[activation] = ACTIVATIONS[activation]()
        mlp["linear1"] = nn.Linear(hidden, width)
        self.mlp = nn.Sequential(mlp)
        self.dropout1 = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.dropout0(self.attention(self.norm0(x)))
        out: Tensor = x + self.dropout1(self.mlp(self.norm1(x)))
        return out


class Attention(nn.Module):
    """Multi-head self-attention: every token attends to all tokens.

    Query, key and value are separate layers, so that each is initialised, watched and updated by itself; and
    training and evaluation use the same kernel, which torch's own module does not.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, tokens, width), unchanged in shape."""
        query, key, value = (
            layer(x).unflatten(2, (self._heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
