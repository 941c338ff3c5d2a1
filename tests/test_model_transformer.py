import numpy as np
import pytest
import torch
from torch import nn

from sweepwise.model.transformer import Patches, transformer


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("features", "patch", "tokens", "values"),
    [((12,), 1, 12, 1), ((12,), 4, 3, 4), ((3, 12), 6, 2, 18), ((2, 4, 6), 2, 6, 8), ((1, 4, 4), 4, 1, 16)],
)
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_shapes_and_number_of_parameters(features, patch, tokens, values, positions):
    width, hidden, layers = 8, 20, 3
    options = {"patch": patch, "width": width, "heads": 2, "layers": layers, "mlp_ratio": 2.5}
    model = transformer(features, 5, **options, positions=positions)
    block = 4 * (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width + 2 * 2 * width
    expected = (values + 1) * width + layers * block + 2 * width + (width + 1) * 5
    assert parameters(model) == expected + (positions == "learned") * tokens * width
    assert model(torch.randn(7, *features)).shape == (7, 5)


def test_patches_of_an_image_by_hand():
    x = np.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    cut = Patches((3, 4, 6), 2)(torch.from_numpy(x)).numpy()
    expected = [
        [image[:, row : row + 2, column : column + 2].ravel() for row in (0, 2) for column in (0, 2, 4)]
        for image in x
    ]
    np.testing.assert_array_equal(cut, expected)


@pytest.mark.parametrize(("features", "patch"), [((12,), 3), ((2, 12), 3)])
def test_patches_of_a_signal_by_hand(features, patch):
    x = np.arange(2 * np.prod(features)).reshape(2, *features)
    cut = Patches(features, patch)(torch.from_numpy(x)).numpy()
    expected = [[signal[..., at : at + patch].ravel() for at in range(0, 12, patch)] for signal in x]
    np.testing.assert_array_equal(cut, expected)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_block_is_torchs_own_encoder_layer(activation):
    width, heads, hidden = 12, 3, 24
    block = transformer((10,), 2, width=width, heads=heads, activation=activation).double().block0
    reference = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation=activation, batch_first=True, norm_first=True
    ).double()
    attention, mlp = block.attention, block.mlp
    three = (attention.query, attention.key, attention.value)
    reference.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([layer.weight for layer in three]),
            "self_attn.in_proj_bias": torch.cat([layer.bias for layer in three]),
            **{f"self_attn.out_proj.{name}": value for name, value in attention.out.state_dict().items()},
            **{f"linear1.{name}": value for name, value in mlp.linear0.state_dict().items()},
            **{f"linear2.{name}": value for name, value in mlp.linear1.state_dict().items()},
            **{f"norm1.{name}": value for name, value in block.norm0.state_dict().items()},
            **{f"norm2.{name}": value for name, value in block.norm1.state_dict().items()},
        }
    )
    x = torch.randn(4, 10, width, dtype=torch.float64)
    torch.testing.assert_close(block(x), reference(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_without_positions_the_order_of_the_tokens_does_not_matter(positions):
    model = transformer((9,), 3, width=8, heads=2, positions=positions).double()
    x = torch.randn(5, 9, dtype=torch.float64)
    shuffled = x[:, torch.tensor([3, 0, 8, 1, 2, 7, 6, 5, 4])]
    same = torch.isclose(model(shuffled), model(x), rtol=1e-9, atol=1e-12)
    assert same.all() if positions == "none" else not same.any()


def test_sines_by_their_formula():
    width, tokens = 6, 5
    table = transformer((tokens,), 2, width=width, heads=1, positions="sinusoidal").positions.table
    expected = np.empty((tokens, width))
    for place in range(tokens):
        for pair in range(width // 2):
            angle = place / 10000 ** (2 * pair / width)
            expected[place, 2 * pair : 2 * pair + 2] = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_where_the_signature_says():
    model = transformer((9,), 3, layers=2, dropout=0.25)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert places == ["dropout", *(f"block{b}.dropout{d}" for b in (0, 1) for d in (0, 1))]
    assert {model.get_submodule(place).p for place in places} == {0.25}


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ((13,), {"patch": 4}, r"model.patch=4: must divide 13, so be one of 1, 13$"),
        ((1, 8, 12), {"patch": 3}, r"model.patch=3: must divide 8 and 12, so be one of 1, 2, 4$"),
        ((13,), {"width": 6, "heads": 4}, r"model.width=6: must be a multiple of model.heads=4"),
        ((13,), {"width": 9, "heads": 1, "positions": "sinusoidal"}, r"model.width=9: must be even"),
        ((1, 2, 3, 4), {}, r"model=transformer: needs .*use model=mlp"),
        ((), {}, r"model=transformer: needs .*use model=mlp"),
    ],
)
def test_what_does_not_fit_is_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        transformer(features, 3, **options)
