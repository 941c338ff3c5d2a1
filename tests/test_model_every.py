"""What holds for every model of conf/model, as a run builds it."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from small import CONF, option_of
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.config.schema import bind
from sweepwise.init import initialize_
from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer.dropout import Dropout
from sweepwise.task import Classification

FOLDER = CONF / "model"
MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
IMAGES = ("cnn2d", "resnet")
SHAPES = [(1,), (13,), (40,), (2, 20), (8, 8), (1, 8, 8), (3, 12, 8)]
VARIANTS = [
    ("cnn1d", {"norm": "batch", "pool": "max", "stride": 1}),
    ("cnn1d", {"norm": "layer", "head": "mean", "hidden": [7]}),
    ("cnn2d", {"norm": "batch", "head": "max", "pool": "mean"}),
    ("resnet", {"depth": 8, "shortcut": "projection", "width": 4}),
    ("resnet", {"depth": 14, "zero_start": True, "width": 4}),
    ("gru", {"layers": 2, "bidirectional": True}),
    ("lstm", {"layers": 2, "bidirectional": True, "pool": "mean"}),
    ("transformer", {"positions": "learned", "heads": 1}),
    ("transformer", {"positions": "none", "layers": 1}),
]
ALL = [(name, {}) for name in MODELS] + VARIANTS


def node(name: str, **options) -> dict:
    return option_of(FOLDER / f"{name}.yaml") | options


def build(name: str, features=None, outputs=10, seed=0, **options) -> nn.Module:
    features = features or ((1, 8, 8) if name in IMAGES else (40,))
    faults: list[str] = []
    bound = bind("model", node(name, **options), faults, given={"features", "outputs"})
    assert not faults
    torch.manual_seed(seed)
    return bound.target(features, outputs)


def initialised(name: str, scheme=torch.nn.init.kaiming_normal_, features=None, **options):
    model = build(name, features, **options)
    return model, initialize_(model, partial(scheme), seed=1)


def examples(name: str, count=12, features=None, dtype=torch.float32, seed=2):
    features = features or ((1, 8, 8) if name in IMAGES else (40,))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *features, generator=generator, dtype=dtype)
    return x, torch.randint(10, (count,), generator=generator)


def learner(model: nn.Module, kind=torch.optim.Adam, regularizers=()) -> ModuleLearner:
    return ModuleLearner(
        model, Classification(10), partial(FlatOptimizer, partial(kind, lr=0.1)), list(regularizers), 0
    )


def train(learner: ModuleLearner, x, y, steps=2, rate=0.01, watch=Watch.NOTHING) -> list[float]:
    return [learner.step(x, y, np.array([rate]), step, watch)[0].item() for step in range(steps)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("features", SHAPES, ids=str)
def test_any_shape_gives_outputs_or_one_clear_error(name, features):
    suits = {"cnn1d": len(features) < 3, "cnn2d": len(features) > 1, "resnet": len(features) > 1}
    too_short = (name, features) in (("cnn1d", (1,)), ("cnn2d", (2, 20)))
    if suits.get(name, True) and not too_short:
        model = build(name, features, outputs=3)
        assert model(torch.randn(4, *features)).shape == (4, 3)
    else:
        with pytest.raises(ValueError, match=r"^model") as refused:
            build(name, features)
        assert too_short or (f"{features}" in str(refused.value) and "use data=" in str(refused.value))


@pytest.mark.parametrize(("name", "options"), ALL)
@pytest.mark.parametrize("scheme", [torch.nn.init.kaiming_normal_, torch.nn.init.orthogonal_])
def test_every_parameter_has_a_rule_and_output_is_the_output_layer(name, options, scheme):
    model, told = initialised(name, scheme, **options)
    assert told.keys() == dict(model.named_parameters()).keys()
    assert not [parameter for parameter, how in told.items() if "no rule" in how]
    assert [parameter for parameter, how in told.items() if "output layer" in how] == ["output.weight"]
    assert list(dict(model.named_children()))[-1] == "output"


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_classifier_starts_near_the_logarithm_of_the_classes(name, options):
    model, _ = initialised(name, **options)
    x, y = examples(name, 64)
    loss = nn.functional.cross_entropy(model(x), y).item()
    assert loss == pytest.approx(math.log(10), rel=0.2)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_the_gradient_reaches_every_parameter(name, options):
    model, _ = initialised(name, **options)
    x, y = examples(name)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # a block that starts as its shortcut has gradients from the second step on
        sgd.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        sgd.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize(("name", "options"), ALL)
def test_without_dropout_and_batch_norm_evaluation_is_training(name, options):
    model, _ = initialised(name, **options)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module
    x, _ = examples(name)
    with torch.no_grad():
        trained = model.train()(x)
        assert torch.equal(model.eval()(x), trained)
    with torch.inference_mode():
        assert torch.equal(model(x), trained)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "linear"])
def test_the_regularizer_dropout_acts(name):
    model, _ = initialised(name)
    assert {module.p for module in model.modules() if isinstance(module, _DropoutNd)} == {0.0}
    Dropout(p=0.5).prepare_(model, (), 10)
    x, _ = examples(name)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("linear", "deep_tanh")])
def test_the_option_dropout_is_the_regularizer(name):
    x, _ = examples(name)
    plain, option = build(name), build(name, dropout=0.5)
    Dropout(p=0.5).prepare_(plain, (), 10)
    outputs = []
    for model in (plain, option):
        torch.manual_seed(3)
        outputs.append(model(x))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_it_learns_in_one_flat_row_and_its_state_is_all_there_is(name, options, recwarn):
    model, _ = initialised(name, **options)
    x, y = examples(name)
    first = learner(model)
    losses = train(first, x, y, steps=6)
    assert losses[-1] < losses[0]
    before = first.evaluate([(x, y)])
    other = build(name, seed=5, **options)
    second = learner(other)
    assert second.evaluate([(x, y)])[0] != before[0]
    other.load_state_dict(first.model_state_dict(0, best=False))
    np.testing.assert_array_equal(second.evaluate([(x, y)])[0], before[0])
    np.testing.assert_array_equal(second.evaluate([(x, y)])[1], before[1])
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_two_steps_in_the_flat_row_are_those_of_separate_parameters(name, options):
    model, _ = initialised(name, **options)
    model = model.double()
    reference = copy.deepcopy(model)
    x, y = examples(name, dtype=torch.float64)
    train(learner(model, torch.optim.AdamW), x, y)
    rest = [p for _, p in reference.named_parameters() if p.ndim < 2]
    weights = [p for _, p in reference.named_parameters() if p.ndim >= 2]
    plain = torch.optim.AdamW([{"params": weights}, {"params": rest, "weight_decay": 0.0}], lr=0.01)
    for _ in range(2):
        plain.zero_grad()
        nn.functional.cross_entropy(reference(x), y).backward()
        plain.step()
    for key, parameter in reference.named_parameters():
        torch.testing.assert_close(model.get_parameter(key), parameter, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_activations_are_seen_under_the_names_of_the_layers(name, options):
    model, _ = initialised(name, **options)
    watching = learner(model)
    train(watching, *examples(name), steps=1, watch=Watch.TENSORS)
    seen = watching.watched(0).activations
    leaves = {
        path
        for path, module in model.named_modules()
        if not list(module.children()) and not isinstance(module, (_DropoutNd, nn.Flatten, nn.Identity))
    }
    assert seen.keys() == leaves and all(len(activation) == 12 for activation in seen.values())


class TorchAttention(nn.Module):
    """A layer with torch's own attention, whose weights are one tensor for query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.output = nn.Linear(8, 10)

    def forward(self, x):
        x = x.unflatten(1, (5, 8))
        return self.output(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_torchs_own_attention_learns_in_the_flat_row(recwarn):
    model = TorchAttention()
    told = initialize_(model, partial(nn.init.xavier_normal_), seed=0)
    assert not [how for how in told.values() if "no rule" in how]
    x, y = examples("mlp")
    first = learner(model)
    losses = train(first, x, y, steps=6)
    assert losses[-1] < losses[0]
    other = TorchAttention()
    second = learner(other)
    other.load_state_dict(first.model_state_dict(0, best=False))
    assert second.evaluate([(x, y)])[0] == first.evaluate([(x, y)])[0]
    assert not [str(warning.message) for warning in recwarn]
