import inspect
import itertools
import math
import pydoc
import time
from functools import partial

import pytest
import torch
from scipy.stats import truncnorm
from small import CONF, option_of
from torch import Tensor, nn

from sweepwise.init import initialize_, rules
from sweepwise.init.default import keep_

FOLDER = CONF / "init"
OPTIONS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ON_TENSORS = sorted({*OPTIONS} - {"checkpoint", "lsuv"})  # these need a file or examples
KAIMING = partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="relu")
NORMS = [
    nn.BatchNorm1d(4),
    nn.BatchNorm2d(4),
    nn.BatchNorm3d(4),
    nn.SyncBatchNorm(4),
    nn.InstanceNorm1d(4, affine=True),
    nn.InstanceNorm2d(4, affine=True),
    nn.InstanceNorm3d(4, affine=True),
    nn.LayerNorm(4),
    nn.GroupNorm(2, 4),
    nn.RMSNorm(4),
]


def option(name: str) -> tuple[partial[Tensor], dict[str, float]]:
    """The scheme of a yaml, and what it sets of `initialize_`."""
    node = option_of(FOLDER / f"{name}.yaml")
    target = pydoc.locate(node.pop("_target_"))
    scheme = {key: value for key, value in node.items() if key in inspect.signature(target).parameters}
    return partial(target, **scheme), {key: value for key, value in node.items() if key not in scheme}


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def zoo() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = {
        "embedding": nn.Embedding(7, 4, padding_idx=2),
        "bag": nn.EmbeddingBag(7, 4),
        "conv1": nn.Conv1d(4, 6, 3),
        "conv2": nn.Conv2d(4, 6, 3, groups=2),
        "conv3": nn.Conv3d(4, 6, 3, bias=False),
        "up1": nn.ConvTranspose1d(4, 6, 3),
        "up2": nn.ConvTranspose2d(4, 6, 3, groups=2),
        "up3": nn.ConvTranspose3d(4, 6, 3),
        "bilinear": nn.Bilinear(3, 4, 5),
        "rnn": nn.RNN(3, 4),
        "gru": nn.GRU(3, 4, num_layers=2),
        "lstm": nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
        "rnn_cell": nn.RNNCell(3, 4),
        "gru_cell": nn.GRUCell(3, 4),
        "lstm_cell": nn.LSTMCell(3, 4),
        "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
        "attention_to": nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        "encoder": nn.TransformerEncoderLayer(4, 2, 8),
        "prelu": nn.PReLU(4),
        "own": nn.ParameterList([nn.Parameter(torch.full((3,), 7.0))]),
        "head": nn.Linear(4, 3),
    }
    return nn.ModuleDict(layers | {type(norm).__name__: norm for norm in NORMS})


def second_moment(weight: Tensor) -> float:
    return weight.detach().square().mean().item()


# --- the record


@pytest.mark.parametrize("name", ON_TENSORS)
def test_every_option_fills_and_records_every_parameter_of_every_kind_of_layer(name):
    model = zoo()
    scheme, outer = option(name)
    record = initialize_(model, scheme, seed=0, **outer)
    assert list(record) == [parameter for parameter, _ in model.named_parameters()]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_record_names_scheme_rule_and_output_layer():
    model = nn.Sequential(mlp(8, 8, 3), nn.LayerNorm(3), nn.LSTM(3, 3), nn.PReLU(), nn.Linear(3, 2))
    assert initialize_(model, KAIMING, seed=0) == {
        "0.0.weight": "kaiming_normal_",
        "0.0.bias": "zeros",
        "0.2.weight": "kaiming_normal_",
        "0.2.bias": "zeros",
        "1.weight": "ones",
        "1.bias": "zeros",
        "2.weight_ih_l0": "kaiming_normal_ per gate",
        "2.weight_hh_l0": "orthogonal_ per gate",
        "2.bias_ih_l0": "zeros, forget gate 1",
        "2.bias_hh_l0": "zeros",
        "3.weight": "as built (0.25)",
        "4.weight": "kaiming_normal_ x 0.1 (output layer)",
        "4.bias": "zeros",
    }


def test_a_parameter_without_a_rule_stays_and_the_record_says_so():
    model = zoo()
    record = initialize_(model, KAIMING, seed=0)
    assert record["own.0"] == "as built: no rule for ParameterList.0"
    assert [name for name, how in record.items() if "no rule" in how] == ["own.0"]
    assert torch.equal(model["own"][0], torch.full((3,), 7.0))


def test_a_registered_rule_covers_a_layer_of_ones_own_and_subclasses_inherit():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(3))

    class MyLinear(nn.Linear):
        pass

    rules.rule.register(Scale, lambda module: {"gain": rules.ONES})
    model = nn.Sequential(Scale(), MyLinear(3, 2))
    record = initialize_(model, KAIMING, seed=0)
    assert record["0.gain"] == "ones" and torch.equal(model[0].gain, torch.ones(3))
    assert record["1.weight"].startswith("kaiming_normal_")


def test_default_leaves_every_bit_and_ignores_the_output_scale():
    model = zoo()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    scheme, outer = option("default")
    record = initialize_(model, scheme, seed=0, output_scale=0.5, **outer)
    assert set(record.values()) == {"as built"}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_keep_returns_the_tensor_itself():
    tensor = torch.ones(3)
    assert keep_(tensor) is tensor


# --- seeds and generators


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_same_seed_same_bits_whatever_the_global_state(seed):
    first, second = zoo(), zoo()
    initialize_(first, KAIMING, seed=seed)
    torch.manual_seed(99)
    initialize_(second, KAIMING, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_seeds_differ():
    first, second = mlp(4, 4, 4), mlp(4, 4, 4)
    initialize_(first, KAIMING, seed=0)
    initialize_(second, KAIMING, seed=1)
    assert not torch.equal(first[0].weight, second[0].weight)


@pytest.mark.parametrize("name", ON_TENSORS)
def test_the_global_generator_is_left_alone(name):
    model = zoo()
    state = torch.get_rng_state()
    initialize_(model, option(name)[0], seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_linear_layers_get_the_bits_of_torchs_own_function():
    model = mlp(5, 4, 3)
    initialize_(model, KAIMING, seed=7, output_scale=1)
    generator = torch.Generator().manual_seed(7)
    for layer in (model[0], model[2]):
        expected = nn.init.kaiming_normal_(
            torch.empty_like(layer.weight), nonlinearity="relu", generator=generator
        )
        assert torch.equal(layer.weight, expected)
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


@pytest.mark.parametrize("kind", [nn.Bilinear, nn.Conv1d, nn.ConvTranspose1d])
def test_values_do_not_depend_on_the_layout_in_memory(kind):
    plain, strided = kind(4, 8, 3), kind(4, 8, 3)
    strided.weight.data = strided.weight.data.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    strides = strided.weight.stride()
    initialize_(plain, KAIMING, seed=0)
    initialize_(strided, KAIMING, seed=0)
    assert torch.equal(plain.weight, strided.weight)
    assert strided.weight.stride() == strides != plain.weight.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    layer = nn.Linear(8, 8, dtype=dtype)
    initialize_(layer, nn.init.orthogonal_, seed=0, output_scale=1)
    assert layer.weight.dtype == dtype
    product = (layer.weight @ layer.weight.T).float()
    torch.testing.assert_close(product, torch.eye(8), atol=8 * torch.finfo(dtype).eps + 1e-6, rtol=0)


# --- rules by type of module


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_convolutions_have_the_fan_of_the_map(transposed, groups, mode):
    n_in, n_out, kernel = 64, 256, 3
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(n_in, n_out, kernel, groups=groups)
    initialize_(
        layer, partial(nn.init.kaiming_normal_, mode=mode, nonlinearity="relu"), seed=0, output_scale=1
    )
    fan = {"fan_in": n_in, "fan_out": n_out}[mode] // groups * kernel**2
    # 2 / fan is the variance; its estimate from N normal values has the relative error sqrt(2 / N)
    assert second_moment(layer.weight) == pytest.approx(2 / fan, rel=4 * math.sqrt(2 / layer.weight.numel()))


@pytest.mark.parametrize("layer", [nn.Conv1d(16, 64, 5), nn.ConvTranspose1d(16, 64, 5)], ids=str)
def test_convolution_keeps_the_second_moment_of_what_passes_through_it(layer):
    initialize_(layer, partial(nn.init.kaiming_normal_, nonlinearity="linear"), seed=0, output_scale=1)
    x = torch.randn(64, 16, 200, generator=torch.Generator().manual_seed(1))
    inner = layer(x).detach()[
        ..., 8:-8
    ]  # away from the edges, where a transposed convolution has fewer terms
    assert second_moment(inner) == pytest.approx(1, rel=0.1)


def test_bilinear_has_a_fan_in_of_all_products():
    layer = nn.Bilinear(20, 30, 50)
    xavier = partial(nn.init.xavier_normal_, gain=1.0)
    initialize_(layer, xavier, seed=0, output_scale=1)
    assert second_moment(layer.weight) == pytest.approx(2 / (20 * 30 + 50), rel=0.05)


def test_transposed_convolution_is_orthogonal_in_its_own_direction():
    layer = nn.ConvTranspose2d(8, 4, 3)
    initialize_(layer, nn.init.orthogonal_, seed=0, output_scale=1)
    rows = layer.weight.detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_norms_have_gain_one_and_bias_zero(norm):
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.fill_(5)
    record = initialize_(norm, KAIMING, seed=0)
    assert torch.equal(norm.weight, torch.ones(4)) and record["weight"] == "ones"
    for bias in [parameter for name, parameter in norm.named_parameters() if name == "bias"]:
        assert torch.equal(bias, torch.zeros(4)) and record["bias"] == "zeros"


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("padding", [None, 0, 199])
def test_embeddings_are_standard_normal_with_a_zero_padding_row(kind, padding):
    layer = kind(200, 100, padding_idx=padding)
    record = initialize_(layer, partial(nn.init.constant_, val=3.0), seed=0)
    rows = layer.weight.detach()
    zero_rows = (rows == 0).all(1).nonzero().flatten().tolist()
    assert zero_rows == ([] if padding is None else [padding])
    drawn = rows[(rows != 0).all(1)]
    assert drawn.mean().item() == pytest.approx(0, abs=4 / math.sqrt(drawn.numel()))
    assert second_moment(drawn) == pytest.approx(1, abs=4 * math.sqrt(2 / drawn.numel()))
    assert record["weight"] == "normal_(0, 1)" + ("" if padding is None else f", row {padding} zero")


@pytest.mark.parametrize(
    ("layer", "gates"),
    [
        (nn.RNN(50, 60, num_layers=2), 1),
        (nn.GRU(50, 60, num_layers=2), 3),
        (nn.LSTM(50, 60, bidirectional=True), 4),
        (nn.RNNCell(50, 60), 1),
        (nn.GRUCell(50, 60), 3),
        (nn.LSTMCell(50, 60), 4),
    ],
    ids=str,
)
def test_recurrent_layers_are_filled_gate_by_gate(layer, gates):
    xavier = partial(nn.init.xavier_normal_, gain=1.0)
    initialize_(layer, xavier, seed=0, output_scale=1)
    for name, parameter in layer.named_parameters():
        weight = parameter.detach()
        if name.startswith("weight_ih"):
            for gate in weight.view(gates, 60, -1):
                fan = 60 + gate.shape[1]  # of one gate: of all together it would be 4 x 60 + 50 for an LSTM
                assert second_moment(gate) == pytest.approx(2 / fan, rel=4 * math.sqrt(2 / gate.numel()))
        elif name.startswith("weight_hh"):
            for gate in weight.view(gates, 60, 60):
                torch.testing.assert_close(gate @ gate.T, torch.eye(60), atol=1e-5, rtol=0)
        elif gates == 4 and name.startswith("bias_ih"):
            assert torch.equal(weight.view(4, 60).sum(1), torch.tensor([0.0, 60.0, 0.0, 0.0]))
        else:
            assert name.startswith("bias") and not weight.any()


def test_lstm_forgets_little_at_the_start():
    # With no input and no output yet, only the biases act: f = sigmoid(1), i = o = 1/2, g = 0.
    cell = nn.LSTMCell(3, 5)
    initialize_(cell, KAIMING, seed=0)
    _, memory = cell(torch.zeros(1, 3), (torch.zeros(1, 5), torch.ones(1, 5)))
    torch.testing.assert_close(memory.detach(), torch.full((1, 5), 1 / (1 + math.exp(-1))))


def test_projected_lstm_maps_back_by_the_scheme():
    layer = nn.LSTM(30, 200, proj_size=100)
    record = initialize_(layer, KAIMING, seed=0, output_scale=1)
    assert record["weight_hr_l0"].startswith("kaiming_normal_")
    assert second_moment(layer.weight_hr_l0) == pytest.approx(2 / 200, rel=0.05)
    for gate in layer.weight_hh_l0.detach().view(4, 200, 100):
        torch.testing.assert_close(gate.T @ gate, torch.eye(100), atol=1e-5, rtol=0)


def test_attention_is_filled_for_q_k_and_v_each():
    layer = nn.MultiheadAttention(96, 4)
    xavier = partial(nn.init.xavier_normal_, gain=1.0)
    initialize_(layer, xavier, seed=0, output_scale=1)
    for block in [*layer.in_proj_weight.detach().view(3, 96, 96), layer.out_proj.weight]:
        assert second_moment(block) == pytest.approx(2 / 192, rel=4 * math.sqrt(2 / 96**2))
    assert not layer.in_proj_bias.any() and not layer.out_proj.bias.any()


def test_attention_with_sizes_of_its_own_for_keys_and_values():
    layer = nn.MultiheadAttention(96, 4, kdim=40, vdim=70, add_bias_kv=True)
    initialize_(layer, KAIMING, seed=0, output_scale=1)
    for weight, fan in [(layer.q_proj_weight, 96), (layer.k_proj_weight, 40), (layer.v_proj_weight, 70)]:
        assert second_moment(weight) == pytest.approx(2 / fan, rel=4 * math.sqrt(2 / weight.numel()))
    assert not layer.bias_k.any() and not layer.bias_v.any()


def test_prelu_keeps_its_slope():
    layer = nn.PReLU(3, init=0.1)
    assert initialize_(layer, KAIMING, seed=0) == {"weight": "as built (0.1)"}
    assert torch.equal(layer.weight, torch.full((3,), 0.1))


# --- the output layer


def cross_entropy_at_the_start(output_scale: float, seed: int) -> float:
    model = mlp(64, 256, 128, 10)
    initialize_(model, KAIMING, seed=seed, output_scale=output_scale)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(512, 64, generator=generator)
    labels = torch.randint(10, (512,), generator=generator)
    return nn.functional.cross_entropy(model(x), labels).item()


def test_a_kaiming_classifier_starts_near_the_log_of_its_classes():
    assert cross_entropy_at_the_start(0.1, seed=0) == pytest.approx(math.log(10), abs=0.05)
    assert cross_entropy_at_the_start(1.0, seed=0) > 2.8
    assert cross_entropy_at_the_start(0.0, seed=0) == pytest.approx(math.log(10), abs=1e-6)


def test_output_scale_multiplies_the_last_weights_only():
    whole, scaled = mlp(6, 5, 4), mlp(6, 5, 4)
    initialize_(whole, KAIMING, seed=0, output_scale=1)
    initialize_(scaled, KAIMING, seed=0, output_scale=0.25)
    assert torch.equal(scaled[0].weight, whole[0].weight)
    assert torch.equal(scaled[2].weight, whole[2].weight * 0.25)


def test_the_output_layer_need_not_be_the_last_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.LayerNorm(2), nn.PReLU())
    record = initialize_(model, KAIMING, seed=0, output_scale=0.5)
    outputs = [name for name, how in record.items() if how == "kaiming_normal_ x 0.5 (output layer)"]
    assert outputs == ["1.weight"]


def test_a_tied_head_is_recorded_once_and_starts_as_a_head():
    model = nn.ModuleDict({"embedding": nn.Embedding(50, 32), "body": nn.Linear(32, 32)})
    model["head"] = nn.Linear(32, 50, bias=False)
    model["head"].weight = model["embedding"].weight
    record = initialize_(model, KAIMING, seed=0)
    assert record == {
        "embedding.weight": "kaiming_normal_ x 0.1 (output layer)",
        "body.weight": "kaiming_normal_",
        "body.bias": "zeros",
    }
    assert second_moment(model["embedding"].weight) == pytest.approx(0.01 * 2 / 32, rel=0.15)


# --- errors


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.LazyLinear(3)), nn.Sequential(nn.Linear(3, 3, device="meta"))]
)
def test_a_parameter_without_values_is_refused(model):
    with pytest.raises(ValueError, match=r"0\.weight must have values before"):
        initialize_(model, KAIMING, seed=0)


def test_a_scheme_that_does_not_fit_names_the_parameter():
    model = nn.Sequential(nn.Linear(3, 4), nn.Conv1d(1, 4, 3))
    with pytest.raises(ValueError, match=r"init eye_ cannot fill 1\.weight \(4, 1, 3\)"):
        initialize_(model, nn.init.eye_, seed=0)


def test_a_scheme_on_a_vector_names_the_parameter():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

    rules.rule.register(Scale, lambda module: {"gain": rules.by_scheme()})
    with pytest.raises(ValueError, match=r"init orthogonal_ cannot fill gain \(3,\): .*2 or more dimensions"):
        initialize_(Scale(), partial(nn.init.orthogonal_, gain=2.0), seed=0)


def test_a_scheme_that_draws_from_the_global_generator_is_refused():
    def noise_(tensor: Tensor) -> Tensor:
        return tensor.normal_()

    with pytest.raises(ValueError, match=r"init noise_ must not draw from torch's global.*`generator`"):
        initialize_(mlp(3, 2), noise_, seed=0)


def test_a_model_without_parameters_has_an_empty_record():
    assert initialize_(nn.Identity(), KAIMING, seed=0) == {}


# --- the options


def test_the_options_are_the_documented_ones():
    assert OPTIONS == [
        "checkpoint",
        "constant",
        "default",
        "delta_orthogonal",
        "identity",
        "kaiming",
        "kaiming_uniform",
        "lecun",
        "lsuv",
        "normal",
        "orthogonal",
        "sparse",
        "truncated_normal",
        "uniform",
        "xavier",
        "xavier_uniform",
        "zeros",
    ]


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_says_first_when_to_use_it(name):
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith(("# For ", "# To ")) and first.endswith(".")


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_sets_only_what_its_target_or_initialize_takes(name):
    scheme, outer = option(name)
    tensors = () if inspect.isclass(scheme.func) else (torch.empty(2, 2),)
    inspect.signature(scheme.func).bind(*tensors, **scheme.keywords)
    assert outer.keys() <= {"output_scale"}


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("zeros", 0),
        ("constant", 0.01**2),
        ("normal", 0.01**2),
        ("xavier", 2 / (300 + 200)),
        ("xavier_uniform", 2 / (300 + 200)),
        ("kaiming", 2 / 300),
        ("kaiming_uniform", 2 / 300),
        ("orthogonal", 1 / 300),
        ("default", 1 / (3 * 300)),
        ("lecun", 1 / 300),
        ("uniform", 0.1**2 / 12),
        ("truncated_normal", truncnorm.var(-2, 2) * 0.02**2),
        ("sparse", 15 / 300 * 0.25**2),
        ("identity", 200 / (200 * 300)),
        ("delta_orthogonal", 1 / 300),
    ],
)
def test_each_option_has_its_closed_form_second_moment(name, variance):
    torch.manual_seed(0)
    layer = nn.Linear(300, 200)
    initialize_(layer, option(name)[0], seed=0, output_scale=1)
    assert second_moment(layer.weight) == pytest.approx(variance, rel=4 * math.sqrt(2 / layer.weight.numel()))


def test_initialising_a_small_network_takes_less_than_5_ms():
    model = mlp(64, 256, 128, 10)

    def seconds() -> float:
        start = time.perf_counter()
        initialize_(model, KAIMING, seed=0)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(20)) < 5e-3  # the least of several: the machine may be busy
