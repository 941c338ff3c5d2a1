"""scripts/check_init.py: what it prints and draws, and what it refuses."""

import math
from functools import partial

import numpy as np
import pytest
from matplotlib.image import imread
from small import CONF, ROOT, WINE

SCRIPT = str(ROOT / "scripts" / "check_init.py")
SMALL = [*WINE, "figure=made/picture.png"]

pytestmark = pytest.mark.usefixtures("empty_folder", "no_display")


@pytest.fixture
def command(as_command):
    return partial(as_command, SCRIPT)


def rows(out: str) -> dict[str, list[str]]:
    """The cells of each line, by the first."""
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}


def test_the_tutorials_table_of_ten_tanh_layers(command, empty_folder):
    code, out, _ = command("init=zeros,normal,xavier,kaiming", "model=deep_tanh", *SMALL)
    assert code == 0
    table = out.split("\n\n")[1]
    cells = rows(table)
    loss, *numbers = map(float, cells["zeros"][:7])
    assert loss == pytest.approx(1.099, abs=1e-3) and set(numbers) == {0.0}  # ln 3
    first, middle, last, *back = map(float, cells["normal"][1:7])
    # N(0, 0.01^2) at width 100: a tenth a layer, while tanh is linear
    assert middle == pytest.approx(first / 1e4, rel=0.3) and last == pytest.approx(first / 1e9, rel=0.3)
    assert back[0] == pytest.approx(back[2] / 1e9, rel=0.5)
    assert all(float(cell) > 0.1 for name in ("xavier", "kaiming") for cell in cells[name][1:4])
    assert "zeros         all units of linear0 are equal" in out
    assert "normal        activations vanish from linear" in out
    assert "xavier        keeps its size through 10 hidden layers" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert imread(empty_folder / "made" / "picture.png").std() > 0.01
    assert [path.name for path in empty_folder.iterdir()] == ["made"]


def mean_field(scale: float) -> float:
    """Deviation behind ten tanh layers of width 100, for the 13 standardised features of wine.

    Source: Poole et al., arXiv:1606.05340, equation 3.
    """
    z = np.linspace(-10, 10, 4001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    square = 13 / 100
    for _ in range(10):
        square = weights @ np.tanh(math.sqrt(100 * scale**2 * square) * z) ** 2
    return math.sqrt(square)


def test_any_key_can_have_several_values(command):
    code, out, _ = command("init=normal", "init.std=0.01,0.1,1.0", "model=deep_tanh", *SMALL)
    cells = rows(out.split("\n\n")[1])
    assert code == 0 and list(cells)[1:] == ["init.std", "0.01", "0.1", "1.0"]
    for scale in (0.1, 1.0):
        assert float(cells[str(scale)][3]) == pytest.approx(mean_field(scale), abs=0.03)


@pytest.mark.slow
def test_all_are_the_options_of_conf(command):
    code, out, _ = command("init=all", "model.hidden=[8,8]", *SMALL)
    options = {path.stem for path in (CONF / "init").glob("*.yaml")}
    assert code == 0 and options <= rows(out).keys()
    assert all(len(line) <= 80 for line in out.splitlines())


def test_one_network_is_shown_layer_by_layer(command):
    code, out, _ = command("init=kaiming", "model.hidden=[8,8]", *SMALL)
    assert code == 0 and {"linear0", "linear1", "output", "kaiming"} <= rows(out).keys()
    code, out, _ = command("model=linear", *SMALL)
    assert code == 0 and {"output", "default"} <= rows(out).keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init=xvier"], ["init=xvier", "did you mean 'xavier'?"]),
        (["init=xavier,kaming"], ["init=kaming", "did you mean 'kaiming'?"]),
        (["init=xavier,zeros", "model.bias=true,false"], ["only one key"]),
        (["optimizer.lrr=1"], ["optimizer.lrr=1", "did you mean 'lr'?"]),
        (["init=normal", "init.std=-1"], ["init.std", "[0, inf)"]),
        (["init=,"], ["init=,", "no value"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, words, command, empty_folder):
    code, _, err = command(*arguments, *SMALL)
    assert code == 2 and all(word in err for word in words) and "Traceback" not in err
    assert not list(empty_folder.iterdir())


def test_values_that_do_not_work_leave_the_others(command):
    code, out, _ = command("init=normal", "init.std=0.1,-1", "model.hidden=[8,8]", *SMALL)
    assert code == 0 and "-1            not possible: init.std" in out and "0.1" in rows(out)


def test_help_says_how(command):
    code, out, _ = command("--help")
    assert code == 0 and "init=zeros,normal,xavier,kaiming" in out and "figure=" in out
    assert all(len(line) <= 80 for line in out.splitlines())
