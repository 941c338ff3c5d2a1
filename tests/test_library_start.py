"""Where a run from Python starts: from the seed, or from weights that were given on purpose; each time."""

import gc
import subprocess
import sys
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from small import ENVIRONMENT
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sweepwise import Arrays, Settings, UsageError, build, fit, split
from sweepwise.config.calling import called_with
from sweepwise.data.sklearn_sets import wine
from sweepwise.early_stop.patience import Patience
from sweepwise.init.first_draw import draw_again_, why_not
from sweepwise.model.mlp import mlp
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.spectral_norm import SpectralNorm

WINES = split(wine(), batch_size=16)


class Net(nn.Module):
    """As a newcomer writes it: it takes no arguments."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


def built(model=Net, **changes):
    given = {"optimizer": partial(Adam, lr=0.01), "settings": Settings(max_epochs=3, device="cpu")}
    return build(data=WINES, model=model, **given | changes)


def values(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- how what makes a network is called


def shape_and_number(x, y, width=8):
    return x, y, width


@pytest.mark.parametrize(
    ("make", "made"),
    [
        (lambda: "none", "none"),
        (lambda width=3: width, 3),
        (lambda features, outputs: (features, outputs), ((13,), 3)),
        (lambda outputs, features: (features, outputs), ((13,), 3)),
        (lambda width=1, *, outputs: (outputs, width), (3, 1)),
        (lambda features: features, (13,)),
        (shape_and_number, ((13,), 3, 8)),
        (partial(shape_and_number, width=2), ((13,), 3, 2)),
        (lambda *given: given, ((13,), 3)),
        (partial(lambda depth, width: (depth, width), depth=1, width=2), (1, 2)),
    ],
)
def test_what_makes_a_network_gets_what_its_signature_takes(make, made):
    assert called_with(make)((13,), 3) == made


def one(width):
    return nn.Linear(13, width)


def three(depth, width, rate):
    return nn.Linear(13, 3)


class Wide(nn.Module):
    def __init__(self, features, outputs, width):
        super().__init__()
        self.layer = nn.Linear(*features, outputs)
        self.forward = self.layer.forward


@pytest.mark.parametrize(
    ("make", "way_out"),
    [
        (one, "model=partial(one, width=...)"),
        (three, "model=partial(three, depth=..., width=..., rate=...)"),
        (Wide, "model=partial(Wide, width=...)"),
    ],
)
def test_what_takes_something_else_is_refused_with_a_way_out_that_works(make, way_out):
    with pytest.raises(UsageError) as refused:
        built(make)
    assert str(refused.value).endswith(f"bind the others: {way_out}")
    assert "must take no arguments, or two, (features, outputs)" in str(refused.value)
    model = eval(
        way_out.removeprefix("model=").replace("...", "3"), {"partial": partial, make.__name__: make}
    )
    assert fit(built(model)).status == "finished"


@pytest.mark.parametrize("make", [nn.Linear, nn.Sequential])
def test_what_cannot_take_the_two_is_told_what_it_was_called_with(make):
    with pytest.raises(
        UsageError, match=r"is called with the shape of an example and .*, \(13,\) and 3, and"
    ):
        built(make)


# --- a network that was made before the seed was set


def test_a_network_starts_as_its_class_does_whatever_was_drawn_before():
    torch.manual_seed(17)
    assert_same(values(built(Net()).model), values(built(Net).model))
    assert not torch.equal(built(Net(), seed=1).model.layers[0].weight, built(Net).model.layers[0].weight)


SCRIPT = """
import hashlib, torch
from test_library_start import Net, built, fit
fitted = fit(built(Net()))
bits = b"".join(value.numpy().tobytes() for value in fitted.model.state_dict().values())
print(hashlib.sha256(bits).hexdigest(), [line["val/loss"].hex() for line in fitted.history])
"""


def test_two_processes_have_the_same_result_to_the_bit():
    path = f"{ENVIRONMENT['PYTHONPATH']}:{'/'.join(__file__.split('/')[:-1])}"
    command, environment = [sys.executable, "-c", SCRIPT], ENVIRONMENT | {"PYTHONPATH": path}
    pair = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate(timeout=300)[0] for process in pair)
    assert first == second and len(first.split()[0]) == 64


THREADS = """
import sys
from functools import partial
import torch
if sys.argv[1] == "late":
    torch.ones(2**20) * 2
from sweepwise import Settings, build, split
from sweepwise.data.sklearn_sets import wine
from sweepwise.model.mlp import mlp
for threads in (1, 2):
    settings = Settings(max_epochs=1, threads=threads, device="cpu")
    optimizer = partial(torch.optim.Adam, lr=0.01)
    model = partial(mlp, hidden=[8])
    built = build(data=split(wine()), model=model, optimizer=optimizer, settings=settings)
    print(threads, [note for note in built.notes if "denormal" in note])
"""


def test_threads_that_torch_had_begun_before_are_noted():
    """They do not flush denormal numbers, as torch.set_flush_denormal reaches the caller's thread alone."""
    for when in ("early", "late"):
        command = [sys.executable, "-c", THREADS, when]
        told = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
        first, second = told.splitlines()
        assert first == "1 []" and ("trainer.threads=2" in second) == (when == "late")


LAYERS = {
    "linear": lambda: nn.Linear(64, 10),
    "convolution": lambda: nn.Conv2d(3, 8, 3, groups=1),
    "transposed": lambda: nn.ConvTranspose1d(4, 6, 3),
    "bilinear": lambda: nn.Bilinear(5, 6, 7),
    "lstm": lambda: nn.LSTM(8, 16, 2, bidirectional=True),
    "gru cell": lambda: nn.GRUCell(8, 16),
    "batch norm": lambda: nn.BatchNorm2d(5),
    "layer norm": lambda: nn.LayerNorm(7),
    "embedding": lambda: nn.Embedding(100, 8, padding_idx=0),
    "attention": lambda: nn.MultiheadAttention(16, 4),
    "attention of several widths": lambda: nn.MultiheadAttention(16, 4, kdim=8, vdim=12),
    "slopes": lambda: nn.PReLU(),
    "transformer": lambda: nn.TransformerEncoderLayer(16, 4),
    "half": lambda: nn.Linear(64, 10).half(),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_torch_s_layers_are_drawn_again_as_they_were_made(layer):
    for seed in range(5):
        torch.manual_seed(seed)
        made = layer()
        assert why_not(made) == ""
    torch.manual_seed(7)
    expected = values(layer())
    torch.manual_seed(7)
    draw_again_(made)
    assert_same(values(made), expected)


def loaded(net):
    net.load_state_dict({name: 1.5 * value for name, value in net.state_dict().items()})


def zeroed(net):
    nn.init.zeros_(net.layers[3].weight)


def orthogonal(net):
    nn.init.orthogonal_(net.layers[0].weight)


def frozen(net):
    net.layers[0].requires_grad_(False)


def used(net):
    net(torch.ones(4, 13))  # moves the statistics of the norm


def owned(net):
    net.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("purpose", [loaded, zeroed, orthogonal, frozen, used, owned])
def test_weights_that_are_there_on_purpose_stay_and_this_is_said(purpose):
    net = Net()
    purpose(net)
    before = values(net)
    parts = built(net)
    assert_same(values(parts.model), before)
    assert parts.notes[0].startswith("model: keeps the weights that it was given with, so the start does not")
    assert parts.notes[0].endswith("its class (model=Net) is called once the seed is set")


def test_pretrained_keeps_any_weights():
    net = Net()
    before = values(net)
    parts = built(net, pretrained=True)
    assert_same(values(parts.model), before)
    assert parts.notes[0].startswith("model: starts from the weights that it has (pretrained=True)")
    assert built(Net()).notes[0].endswith("pretrained=True keeps those that it has")


def test_pretrained_is_for_a_network_without_another_init():
    with pytest.raises(UsageError, match="pretrained=True: keeps the weights, and init would replace them"):
        built(Net(), pretrained=True, init=nn.init.xavier_normal_)
    with pytest.raises(UsageError, match="pretrained=True: is for a network that is given"):
        built(Net, pretrained=True)


def test_a_chosen_init_acts_as_ever_and_leaves_nothing_of_before():
    net = Net()
    used(net)
    assert_same(
        values(built(net, init=nn.init.xavier_normal_).model),
        values(built(init=nn.init.xavier_normal_).model),
    )


# --- the cells again


class Counting(nn.Module):
    """Keeps its steps in a number, a list and a buffer that it makes itself."""

    def __init__(self):
        super().__init__()
        self.layer, self.steps, self.seen = nn.Linear(13, 3), 0, []

    def forward(self, x):
        self.steps += 1
        self.seen.append(self.steps)
        self.register_buffer("last", torch.tensor(float(self.steps)))
        return self.layer(x) * (1 + 1 / len(self.seen) + 1 / self.last)


class Slowing:
    """A rule with state of its own, in a list."""

    metric, mode, least_epochs = "val/loss", "min", 1

    def __init__(self):
        self.seen = []

    def update(self, epoch, value):
        self.seen.append(value)
        return "enough" if len(self.seen) == 2 else ""


AGAIN = {
    "plain": {},
    "plateau": {"scheduler": partial(ReduceLROnPlateau, patience=0, factor=0.5)},
    "a rule": {"early_stop": Patience(patience=1)},
    "a rule of one's own": {"early_stop": Slowing()},
    "an average": {"settings": Settings(max_epochs=3, device="cpu", ema=0.9)},
    "mixup": {"regularizers": [Mixup()]},
    "spectral": {"regularizers": [SpectralNorm()]},
    "state in the network": {"model": Counting},
    "a network": {"model": Net()},
    "a network of weights of its own": {
        "model": nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(13, 3)))
    },
}


@pytest.mark.parametrize("case", AGAIN)
def test_fit_begins_again_where_it_began(case):
    parts = built(**AGAIN[case])
    first = fit(parts)
    weights = values(parts.model)
    for _ in range(2):
        again = fit(parts)
        assert (again.status, again.history, again.metrics) == (first.status, first.history, first.metrics)
        assert_same(values(parts.model), weights)


@pytest.mark.parametrize("case", ["a network", "a network of weights of its own", "spectral"])
def test_build_and_fit_of_the_same_network_give_the_same(case):
    changes = {"model": Net()} | AGAIN[case]
    first = fit(built(**changes))
    assert fit(built(**changes)).history == first.history
    assert fit(built(**changes)).history == first.history


def test_a_lazy_network_starts_from_the_seed_the_first_time_too():
    def lazy():
        return nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 8), nn.LazyLinear(3))

    network = lazy()
    first = fit(built(network)).history
    assert fit(built(network)).history == first
    torch.manual_seed(5)
    assert fit(built(lazy())).history == first


def test_it_begins_again_also_after_an_error(monkeypatch):
    expected = fit(built()).history
    parts = built()
    step = type(parts.learner).step

    def failing(self, x, y, rates, at, watch):
        if at == 9:
            raise ValueError("a step fails")
        return step(self, x, y, rates, at, watch)

    monkeypatch.setattr(type(parts.learner), "step", failing)
    with pytest.raises(ValueError, match="a step fails"):
        fit(parts)
    monkeypatch.undo()
    assert fit(parts).history == expected


def test_a_network_can_be_trained_on():
    net = Net()
    first = fit(built(net))
    second = fit(built(net, pretrained=True))
    assert second.history[0]["train/loss"] < first.history[0]["train/loss"]


def test_weights_that_are_loaded_after_a_run_are_the_start_of_the_next():
    net = Net()
    fit(built(net))
    loaded(net)
    before = values(net)
    assert_same(values(built(net).model), before)


def test_a_rule_whose_state_cannot_be_reached_is_refused_at_the_second_fit():
    class Slotted:
        __slots__ = ("seen",)
        metric, mode, least_epochs = "val/loss", "min", 1

        def __init__(self):
            self.seen = 0

        def update(self, epoch, value):
            self.seen += 1
            return ""

    parts = built(early_stop=Slotted())
    fit(parts)
    with pytest.raises(UsageError, match="Slotted cannot be brought back to its start, as it has __slots__"):
        fit(parts)


def test_networks_are_not_kept_alive():
    net = nn.Linear(1, 1)
    line = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=6)
    parts = build(data=line, model=net, optimizer=partial(Adam, lr=0.1), settings=Settings(max_epochs=1))
    fit(parts)
    gone = weakref.ref(net)
    del net, parts
    gc.collect()
    assert gone() is None


def test_the_same_factory_still_serves():
    assert fit(built(partial(mlp, hidden=[8]))).status == "finished"
