"""Residual networks for small images."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn import functional

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.model.activation import ACTIVATIONS, Activation


@checked("model")
def resnet(
    features: Sequence[int],
    outputs: int,
    *,
    depth: Annotated[int, Range(8, 10_000)],
    width: Annotated[int, Range(1)] = 16,
    shortcut: Literal["pad", "projection"] = "pad",
    activation: Activation = "relu",
    zero_start: bool = False,
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
) -> nn.Sequential:
    """A 3 x 3 convolution, three stages of n residual blocks, the mean over all positions, a linear layer.

    With depth 6n + 2: the stages have `width`, 2 and 4 times as many channels, and the second and third begin
    with stride 2. Without biases; batch norm after every convolution.

    Args:
        features: shape of one example: (channels, height, width) or (height, width).
        outputs: classes, or 1 for regression.
        depth: layers with weights, 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        width: channels of the first stage; 16 as published.
        shortcut: where the channels change; 'pad': every second position and channels of zeros, without
            parameters (option A), 'projection': a 1 x 1 convolution and norm (option B).
        activation: of every layer.
        zero_start: whether the last norm of each block starts with gain 0, so that every block starts as its
            shortcut.
        dropout: probability in [0, 1) between the two convolutions of a block.

    Returns:
        x: (batch, *features) -> logits or predictions: (batch, outputs).

    Raises:
        ValueError: the data are not images, or the depth is not 6n + 2.

    Source: He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385, section 4.2.
    Dropout: Zagoruyko & Komodakis, Wide Residual Networks, arXiv:1605.07146, section 2.4. Zero start: Goyal
    et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, section 5.1.
    """
    if len(features) not in (2, 3):
        raise ValueError(
            "model=resnet: needs images (channels, height, width) or (height, width), the data has "
            f"{tuple(features)}; use data=digits data.image=true, or model=mlp"
        )
    if depth % 6 != 2:
        near = max(8, depth - (depth - 2) % 6)
        raise ValueError(f"model.depth={depth}: must be 6n + 2, such as {near} or {near + 6}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(features) == 2:
        layers["channel"] = nn.Unflatten(1, (1, features[0]))
    layers["conv"] = nn.Conv2d(features[0] if len(features) == 3 else 1, width, 3, padding=1, bias=False)
    layers["norm"] = nn.BatchNorm2d(width)
    layers[activation] = ACTIVATIONS[activation]()
    before = width
    for stage in range(3):
        for number in range((depth - 2) // 6):
            stride = 2 if stage and not number else 1
            block = Residual(before, width << stage, stride, shortcut, activation, zero_start, dropout)
            layers[f"stage{stage}_block{number}"] = block
            before = width << stage
    layers["head"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(before, outputs)
    return nn.Sequential(layers)


class Residual(nn.Module):
    """activation(branch(x) + shortcut(x)), the branch being two 3 x 3 convolutions.

    x: (batch, before, height, width) -> (batch, after, height / stride, width / stride), rounded up.
    """

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        shortcut: str,
        activation: Activation,
        zero_start: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        last = ZeroStartNorm(after) if zero_start else nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if (before, stride) != (after, 1):
            self.shortcut = (
                Pad(before, after, stride) if shortcut == "pad" else projection(before, after, stride)
            )
        branch: OrderedDict[str, nn.Module] = OrderedDict()
        branch["conv0"] = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        branch["norm0"] = nn.BatchNorm2d(after)
        branch[f"{activation}0"] = ACTIVATIONS[activation]()
        branch["dropout0"] = nn.Dropout(dropout)
        branch["conv1"] = nn.Conv2d(after, after, 3, padding=1, bias=False)
        branch["norm1"] = last
        self.branch = nn.Sequential(branch)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class Pad(nn.Module):
    """Every `stride`-th position, with channels of zeros added: the shortcut without parameters."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self._added, self._stride = after - before, stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, before, height, width) -> (batch, after, height / stride, width / stride)."""
        return functional.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, 0, self._added))


def projection(before: int, after: int, stride: int) -> nn.Sequential:
    """A 1 x 1 convolution and its norm."""
    convolution = nn.Conv2d(before, after, 1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(after)))


class ZeroStartNorm(nn.BatchNorm2d):
    """Batch norm with gain `weight - 1`, so that an initialisation of the weight by 1 gives gain 0."""

    def forward(self, input: Tensor) -> Tensor:
        """input: (batch, channels, height, width), as it comes out."""
        return functional.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight - 1,
            self.bias,
            training=self.training,
            momentum=0.1,
            eps=self.eps,
        )
