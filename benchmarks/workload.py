"""The three trainings that every contender of the benchmarks runs, built from a seed and without a network.

w1: MLP 64-256-128-10 (ReLU) on scikit-learn's digits, 60/20/20 split (1,078 training examples), batch 64.
    The steps are so small that the overhead of a loop decides.
w2: MLP 784-256-10 (ReLU) on 60,000 synthetic examples, batch 128, validated on 10,000. Arithmetic decides.
w3: three 1-D convolutions of 25 channels, stride 2, and a linear layer on 4,000 synthetic signals of 40
    numbers, batch 100, validated on 1,000: the network that MNIST-1D's authors use. Calls of kernels decide.

All: cross-entropy, Adam with learning rate 1e-3, the last and smaller batch of an epoch kept, and after
every epoch the loss and the accuracy on the whole validation part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, pairwise

import torch
from torch import Tensor, nn

SEED = 0


@dataclass
class Workload:
    """Data and constants of one training.

    Attributes:
        layers: makes the layers, from the input to the logits.
        batch: examples per step.
        train: inputs (examples, features) and labels (examples,).
        validation: the same for the validation part.
        history: loss and accuracy of each validation, in order, filled by `report`.
    """

    layers: Callable[[], Sequence[nn.Module]]
    batch: int
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    learning_rate: float = 1e-3
    history: list[tuple[float, float]] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the smaller last one included."""
        return -(-len(self.train[1]) // self.batch)

    def model(self) -> nn.Sequential:
        """A freshly initialised model; seeds the global generator, so the batches that follow repeat too."""
        torch.manual_seed(SEED)
        return nn.Sequential(*self.layers())

    def report(self, loss: float, accuracy: float) -> None:
        """Take the result of one validation, so that a fast loop can be seen to learn as well."""
        self.history.append((loss, accuracy))


def _mlp(*widths: int) -> list[nn.Module]:
    pairs = [(nn.Linear(fan_in, fan_out), nn.ReLU()) for fan_in, fan_out in pairwise(widths)]
    return list(chain.from_iterable(pairs))[:-1]


def _cnn() -> list[nn.Module]:
    return [
        nn.Conv1d(1, 25, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(25, 25, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(125, 10),
    ]


def _digits() -> Workload:
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
    train, validation, _ = order.tensor_split([int(0.6 * len(y)), int(0.8 * len(y))])
    return Workload(partial(_mlp, 64, 256, 128, 10), 64, (x[train], y[train]), (x[validation], y[validation]))


def _synthetic() -> Workload:
    generator = torch.Generator().manual_seed(SEED)
    teacher = torch.randn(784, 10, generator=generator)
    x_train = torch.randn(60_000, 784, generator=generator)
    x_validation = torch.randn(10_000, 784, generator=generator)
    train = (x_train, (x_train @ teacher).argmax(1))
    validation = (x_validation, (x_validation @ teacher).argmax(1))
    return Workload(partial(_mlp, 784, 256, 10), 128, train, validation)


def _signals() -> Workload:
    generator = torch.Generator().manual_seed(SEED)
    templates = torch.randn(10, 1, 40, generator=generator)
    labels = torch.randint(10, (5_000,), generator=generator)
    x = templates[labels] + 2 * torch.randn(5_000, 1, 40, generator=generator)
    return Workload(_cnn, 100, (x[:4_000], labels[:4_000]), (x[4_000:], labels[4_000:]))


WORKLOADS: dict[str, Callable[[], Workload]] = {"w1": _digits, "w2": _synthetic, "w3": _signals}


@cache
def build(name: str) -> Workload:
    """The workload called `name`, built once per process."""
    return WORKLOADS[name]()
