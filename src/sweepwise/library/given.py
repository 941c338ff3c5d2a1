"""A network that was made before the seed was set: where its weights come from, at each build."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sweepwise.errors import UsageError
from sweepwise.init.default import keep_
from sweepwise.init.first_draw import draw_again_, why_not
from sweepwise.learner.materialise import materialise_
from sweepwise.learner.untrained import on_cpu
from sweepwise.learner.without_trace import way_back


class _Given(NamedTuple):
    """What is known of a network that was given to a build before.

    Attributes:
        back: brings it back to how it was given.
        left: its `fingerprint` after the last build or fit.
    """

    back: Callable[[], None]
    left: str


_given: WeakKeyDictionary[nn.Module, _Given] = WeakKeyDictionary()


class GivenNetwork:
    """Makes a network ready for `assemble`, whenever it is given: the same start each time.

    Weights that are a first draw of the layers are drawn again, from the seed that is set when it is called.
    Others are there on purpose and stay: for a second run those with which the network was first given, not
    those that the first run has left.

    Args:
        network: as it was given.
        init: what was chosen; with another one than the default all weights are drawn again, as it replaces
            them.
        pretrained: whether the weights that the network has now are those that it starts from.

    Attributes:
        note: what a person should know of its weights; '' before it is called.

    Raises:
        UsageError: the weights are to be kept and to be replaced.
    """

    def __init__(self, network: nn.Module, init: Callable[..., object], pretrained: bool) -> None:
        self.network, self._chosen, self._pretrained = network, init is not keep_, pretrained
        self.note = ""
        if pretrained and self._chosen:
            raise UsageError(
                ["pretrained=True: keeps the weights, and init would replace them; leave one of the two out"]
            )

    def __call__(self, features: tuple[int, ...], outputs: int) -> nn.Module:
        """Returns the network."""
        gpus = {own.device.index for own in self.network.parameters() if own.is_cuda}
        with torch.random.fork_rng(gpus):  # lazy layers must have weights before these are drawn again
            materialise_(self.network, torch.zeros(2, *features))
        known = _given.get(self.network)
        ours = known is not None and known.left == fingerprint(self.network)
        if known is not None and ours and not self._pretrained:
            known.back()
        else:
            known = _Given(way_back(self.network), "")
        _given[self.network] = known
        self.note = self._note()
        return self.network

    def _note(self) -> str:
        if self._pretrained:
            return "model: starts from the weights that it has (pretrained=True), not from the seed"
        if self._chosen:
            draw_again_(self.network)
            return ""
        if why := why_not(self.network):
            return (
                f"model: keeps the weights that it was given with, so the start does not follow from the "
                f"seed: {why}; {self._class()} is called once the seed is set"
            )
        draw_again_(self.network)
        return (
            "model: was made before the seed was set, so its layers have drawn their weights again; "
            "pretrained=True keeps those that it has"
        )

    def _class(self) -> str:
        """What could be given instead of the network."""
        kind = type(self.network)
        own = not kind.__module__.startswith("torch.")
        return f"its class (model={kind.__name__})" if own else "a function that makes it (model=lambda: ...)"


def remember(network: nn.Module) -> None:
    """Notes how a build or fit has left a network; does nothing for one that was made by a build."""
    if (known := _given.get(network)) is not None:
        _given[network] = known._replace(left=fingerprint(network))


def fingerprint(network: nn.Module) -> str:
    """A hash of all parameters and buffers, 16 hex digits.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> before = fingerprint(layer)
        >>> _ = layer.weight.data.add_(1)
        >>> fingerprint(layer) == before
        False
    """
    digest = hashlib.sha256()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        own = on_cpu(tensor)
        own = own if own.layout is torch.strided else own.to_dense()
        digest.update(f"{name} {own.dtype} {tuple(own.shape)}".encode())
        digest.update(own.reshape(-1).view(torch.uint8).numpy().tobytes() if own.numel() else b"")
    return digest.hexdigest()[:16]
