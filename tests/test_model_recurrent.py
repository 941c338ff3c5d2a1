import numpy as np
import pytest
import torch
from torch import nn

from sweepwise.model.recurrent import recurrent

TORCH = {"gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"gru": 3, "lstm": 4}
# features of an example, and how many steps of how many values it is read in
FEATURES = [((7,), 7, 1), ((3, 7), 7, 3), ((1, 7, 5), 7, 5), ((2, 7, 5), 7, 10)]


def steps_of(x: np.ndarray) -> np.ndarray:
    """The sequence that an example is read as, value by value, channels at once, or row by row."""
    if x.ndim == 1:
        return x.reshape(-1, 1)
    return np.stack([x[:, step].ravel() for step in range(x.shape[1])])


@pytest.mark.parametrize(("features", "steps", "values"), FEATURES)
@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_it_is_torchs_own_stack_run_by_hand(features, steps, values, cell, layers, bidirectional, pool):
    options = {"layers": layers, "bidirectional": bidirectional}
    model = recurrent(features, 3, cell=cell, width=4, pool=pool, **options).double()
    reference = TORCH[cell](
        values, 4, num_layers=layers, bidirectional=bidirectional, batch_first=True
    ).double()
    own = {
        name.replace("_l0", f"_l{layer}"): parameter
        for layer in range(layers)
        for name, parameter in model.get_submodule(f"{cell}{layer}").state_dict().items()
    }
    reference.load_state_dict(own)
    x = torch.randn(5, *features, dtype=torch.float64)
    sequence = torch.from_numpy(np.stack([steps_of(example) for example in x.numpy()]))
    assert sequence.shape == (5, steps, values)
    states, final = reference(sequence)
    final = final[0] if cell == "lstm" else final
    directions = 1 + bidirectional
    last = final[-directions:].transpose(0, 1).flatten(1)
    expected = model.output(states.mean(1) if pool == "mean" else last)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_number_of_parameters(cell, layers, bidirectional):
    width, values, directions = 6, 2, 1 + bidirectional
    model = recurrent((values, 9), 4, cell=cell, width=width, layers=layers, bidirectional=bidirectional)
    inputs = [values] + [directions * width] * (layers - 1)
    expected = sum(directions * GATES[cell] * width * (n + width + 2) for n in inputs)
    assert sum(p.numel() for p in model.parameters()) == expected + (directions * width + 1) * 4


def test_the_last_state_remembers_the_order_and_the_first_value():
    model = recurrent((6,), 2, cell="gru", width=3).double()
    x = torch.randn(1, 6, dtype=torch.float64)
    first = x.clone()
    first[0, 0] += 1
    for other in (x.flip(1), first):
        assert not torch.isclose(model(other), model(x)).any()


def test_dropout_stands_after_every_layer():
    model = recurrent((6,), 2, cell="lstm", layers=2, dropout=0.25)
    assert [name for name, _ in model.named_children()] == [
        *("steps", "lstm0", "dropout0", "lstm1", "dropout1", "pool", "output")
    ]
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


@pytest.mark.parametrize("features", [(), (1, 2, 3, 4)])
def test_other_shapes_are_refused(features):
    with pytest.raises(ValueError, match=r"model=gru: needs \(length,\).*use model=mlp"):
        recurrent(features, 3, cell="gru")
