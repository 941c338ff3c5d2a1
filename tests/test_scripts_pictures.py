"""The pictures of the five techniques: the numbers that are drawn, the files, and what bad input is told."""

import importlib.util
import json
import math
import runpy
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from matplotlib import image
from small import CONF, ROOT, TRAIN

from sweepwise import cli
from sweepwise.tools import figure

SCRIPTS = [
    "draw_curves",
    "draw_depth",
    "draw_dropout",
    "draw_early_stopping",
    "draw_init",
    "draw_schedules",
    "draw_sparsity",
    "draw_symmetry",
    "show_seed",
]
TINY = ["data=wine", "model.hidden=[8]", "trainer.max_epochs=2"]

pytestmark = pytest.mark.usefixtures("empty_folder", "no_display", "in_english")


@pytest.fixture
def in_english(monkeypatch):
    """Pictures are written on in English; gives back the font and what Hydra keeps."""
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    figure.chinese_font.cache_clear()
    yield
    figure.chinese_font.cache_clear()
    GlobalHydra.instance().clear()


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composed(*overrides: str):
    return cli.composed(list(overrides), CONF)


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs a script with arguments; returns exit code, what it printed and what it complained of."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capfd.readouterr()

    return call


def is_picture(path: Path) -> bool:
    pixels = image.imread(path)
    return min(pixels.shape[:2]) > 250 and len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


# --- the numbers that are drawn


@pytest.fixture(scope="module")
def four():
    overrides = ["optimizer.lr=0.1", "data=wine", "trainer.max_epochs=100"]
    names = ("step", "exponential", "cosine", "plateau")
    script = load("draw_schedules")
    return {name: script.rates(composed(f"scheduler={name}", *overrides)) for name in names}


def test_schedules_are_drawn_step_by_step(four):
    for drawn in four.values():
        assert len(drawn.rates) == 100 * drawn.steps_per_epoch == 100 * math.ceil(107 / 16)
        assert (drawn.rates.reshape(100, -1) == drawn.rates[:: drawn.steps_per_epoch, None]).all()


def test_schedules_have_the_known_rates(four):
    epochs = {name: drawn.rates[:: drawn.steps_per_epoch] for name, drawn in four.items()}
    assert epochs["step"] == pytest.approx(np.repeat([0.1, 0.01, 1e-3, 1e-4], [30, 30, 30, 10]))
    assert epochs["exponential"][[50, 99]] == pytest.approx([0.0076944975, 0.0006232136], rel=1e-7)
    at = [25, 50, 75, 99]
    assert epochs["cosine"][at] == pytest.approx([0.08535534, 0.05, 0.01464466, 2.4672e-5], rel=1e-5)
    drops = np.flatnonzero(np.diff(epochs["plateau"])) + 1
    assert drops.tolist() == [6, 11, 16, 21, 26, 31, 36]  # after the fifth bad epoch each
    assert epochs["plateau"][99] == pytest.approx(1e-8)
    assert [four[name].follows for name in four] == ["", "", "", "val/loss"]


def test_the_schedule_of_a_run_is_drawn_as_the_run_uses_it(tmp_path):
    from sweepwise import run

    overrides = ["init=xavier", "scheduler=cosine", "scheduler.warmup=2", *TINY, "trainer.max_epochs=5"]
    drawn = load("draw_schedules").rates(composed(*overrides))
    given = ["early_stop=none", "monitor=everything", "progress=false", f"output_dir={tmp_path}"]
    request = composed(*overrides, *given)
    run.train(request)
    lines = [json.loads(line) for line in (request.folder / "metrics.jsonl").read_text().splitlines()]
    used = {line["step"]: line["lr/lr"] for line in lines if "lr/lr" in line}
    assert len(used) == len(drawn.rates) == 35
    assert [used[step] for step in range(35)] == pytest.approx(drawn.rates)


def test_a_metric_is_constant_at_the_validations_only():
    script = load("draw_schedules")
    plateau = [
        "scheduler=plateau",
        "scheduler.patience=1",
        "optimizer.lr=0.1",
        *TINY,
        "trainer.max_epochs=20",
    ]
    drawn = script.rates(composed(*plateau, "trainer.validate_every=2"))
    changes = np.flatnonzero(np.diff(drawn.rates[:: drawn.steps_per_epoch])) + 1
    assert changes.tolist() == [4, 6, 8, 10, 12, 14, 16]  # two bad epochs each; then it is at eps


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["init=normal"], 0.01),
        (["init=normal", "init.std=0.3"], 0.3),
        (["init=xavier"], 0.1),
        (["init=xavier_uniform", "init.gain=2"], 0.2),
        (["init=kaiming"], math.sqrt(0.02)),
        (["init=kaiming_uniform"], math.sqrt(0.02)),
        (["init=kaiming", "init.nonlinearity=linear"], 0.1),
        (["init=kaiming", "init.nonlinearity=leaky_relu", "init.a=1"], 0.1),
        (["init=orthogonal"], 0.1),
        (["init=default"], 1 / math.sqrt(300)),
        (["init=zeros"], 0.0),
        (["init=constant"], 0.0),
    ],
)
def test_weights_have_the_deviation_that_the_title_expects(overrides, expected):
    values, formula = load("draw_init").weights(composed(*overrides))
    assert values.shape == (100 * 100,)
    assert formula == pytest.approx(expected)
    assert values.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * 100 * 100), abs=1e-8)


def test_constant_weights_are_the_constant_not_an_output_layers():
    values, _ = load("draw_init").weights(composed("init=constant"))
    assert (values == np.float32(0.01)).all()


def test_no_deviation_is_expected_where_no_formula_is_known():
    assert math.isnan(load("draw_init").weights(composed("init=sparse")).expected)


def test_the_signal_in_ten_tanh_layers_follows_the_mean_field():
    """Poole et al., arXiv:1606.05340: q <- n s^2 E[tanh(sqrt(q) z)^2]; backwards n s^2 E[tanh'^2] a layer."""
    script = load("draw_depth")
    deep = {}
    for std, rms, tolerance in ((0.01, 9.90e-11, 0.2 * 9.90e-11), (0.1, 0.2285, 0.02), (1.0, 0.9576, 0.003)):
        found = script.signal(composed("model=deep_tanh", "init=normal", f"init.std={std}"), 20)
        assert len(found.forwards) == len(found.backwards) == 10
        assert found.forwards[-1] == pytest.approx(rms, abs=tolerance)
        assert found.backwards[-1] == pytest.approx(1, abs=0.02)
        deep[std] = found
    assert deep[0.01].backwards[0] == pytest.approx(0.1**9, rel=0.2)  # tanh is linear for so small a signal
    assert deep[1.0].backwards[0] > 100
    xavier = script.signal(composed("model=deep_tanh", "init=xavier"), 20)
    assert xavier.forwards == pytest.approx(deep[0.1].forwards)  # sqrt(2 / 200) is 0.1


def test_kaiming_keeps_the_gradient_of_relu_layers():
    found = load("draw_depth").signal(
        composed("model=deep_tanh", "model.activation=relu", "init=kaiming"), 20
    )
    assert found.backwards[0] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("patience", "stopped"), [(1, 21), (3, 23), (5, 25), (7, 27), (10, 30)])
def test_the_valley_stops_where_it_is_known_to(patience, stopped):
    curve = load("draw_early_stopping").valley([f"early_stop.patience={patience}"])
    assert (curve.best, curve.stopped, len(curve.values)) == (20, stopped, stopped + 1)
    assert curve.ahead[0] == curve.values[-1] == pytest.approx((stopped - 20) ** 2 / 400 + 0.5)


def test_a_rule_that_never_stops_is_drawn_to_the_end():
    curve = load("draw_early_stopping").valley(["early_stop.patience=40"])
    assert (curve.best, curve.stopped, curve.why) == (20, 59, "the last epoch")


def test_dropout_differs_in_training_only():
    script = load("draw_dropout")
    request = composed("data=wine", "regularizer=dropout")
    outputs = script.passes(request)
    assert outputs["train"].shape == outputs["eval"].shape == (script.PASSES, 3)
    assert len(np.unique(outputs["train"], axis=0)) == script.PASSES
    assert len(np.unique(outputs["eval"], axis=0)) == 1
    assert (script.passes(request)["train"] == outputs["train"]).all()
    assert len(np.unique(script.passes(composed("data=wine"))["train"], axis=0)) == 1


# --- commands


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_it_does_and_shows_commands_of_this_script(name, command, empty_folder):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert (f"    python scripts/{name}.py" in out and "figure=PATH" in out) or name == "show_seed"
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("draw_init", ["init=all"], marks=pytest.mark.slow),
        ("draw_init", ["init=xavier"]),
        pytest.param(
            "draw_depth",
            ["nets=1", "model.hidden=[10,10,10]", "init=xavier,zeros"],
            marks=pytest.mark.slow,
        ),
        pytest.param("draw_schedules", ["scheduler=all", "data=wine"], marks=pytest.mark.slow),
        ("draw_schedules", ["scheduler=step,exponential", "scheduler.gamma=0.5", "scale=log", "data=wine"]),
        pytest.param("draw_dropout", [*TINY, "seeds=0,1"], marks=pytest.mark.slow),
        pytest.param("draw_sparsity", ["regularizer=none,dropout", *TINY], marks=pytest.mark.slow),
        ("draw_symmetry", ["init=zeros,xavier", *TINY]),
        ("draw_early_stopping", []),
    ],
)
def test_a_script_leaves_a_picture_where_it_says(name, arguments, command, empty_folder):
    code, out, err = command(name, *arguments, "figure=made/here.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].split() == ["figure", "made/here.png"]
    assert is_picture(empty_folder / "made" / "here.png")


def test_units_that_start_equal_stay_one_unit(command):
    _, out, _ = command("draw_symmetry", "init=zeros,constant,xavier", *TINY, "model.hidden=[12]")
    told = {line.split()[0]: line.split()[1:5] for line in out.splitlines() if "distinct" in line}
    assert told["zeros"] == told["constant"] == ["1", "of", "12", "units"]
    assert told["xavier"] == ["12", "of", "12", "units"]


@pytest.mark.slow
def test_l1_with_a_proximal_step_leaves_zeros_and_l2_none(command):
    strengths = ["regularizer.l1.coefficient=0.02", "regularizer.l1.proximal=true"]
    sgd = ["optimizer=sgd", "regularizer.l2.coefficient=0.02", *TINY, "trainer.max_epochs=20"]
    _, out, _ = command("draw_sparsity", "regularizer=none,l1,l2", *strengths, *sgd)
    zero = {line.split()[0]: float(line.split()[3][:-1]) for line in out.splitlines() if "exactly" in line}
    assert zero["none"] == zero["l2"] == 0 and zero["l1"] > 10


def test_the_seed_fixes_the_weights_of_the_known_layer(command, empty_folder):
    code, out, err = command("show_seed")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[1] == lines[2] and lines[1].split()[1:] == ["weight", "0.5406", "0.5869", "bias", "-0.1657"]
    assert lines[0].split()[2:] != lines[1].split()[1:]
    assert lines[3] + ", after other draws" == lines[4] and lines[5] + ", after other draws" == lines[6]
    assert command("show_seed")[1].splitlines()[0] != lines[0]
    other = command("show_seed", "seed.value=42", "seed.init=1")[1].splitlines()
    assert other[1] != lines[1] and other[3:] == lines[3:]
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("overrides", "metric"),
    [
        (["data=diabetes", "model.hidden=[4]"], "val/r2 "),
        (["data.validation=0", *TINY], "train/accuracy "),
    ],
)
@pytest.mark.parametrize(
    ("name", "option"), [("draw_symmetry", "init=xavier"), ("draw_sparsity", "regularizer=none")]
)
def test_a_run_without_an_accuracy_shows_what_it_has(name, option, overrides, metric, command):
    code, out, err = command(name, option, "early_stop=none", "trainer.max_epochs=1", *overrides)
    assert (code, err) == (0, "") and metric in out and "nan" not in out


@pytest.mark.parametrize("name", ["draw_symmetry", "draw_sparsity"])
def test_weights_that_are_not_finite_are_not_drawn(name, command):
    diverging = ["optimizer=sgd", "optimizer.lr=1e30", "early_stop=none", *TINY]
    code, _, err = command(name, *diverging, "init=xavier" if name == "draw_symmetry" else "regularizer=none")
    assert code == 2 and "its weights are not finite; use a smaller optimizer.lr" in err


@pytest.mark.slow
def test_a_folder_of_runs_becomes_curves_and_a_table(command, empty_folder):
    train = [TRAIN, "-m", *TINY, "early_stop=none", "monitor=none"]
    commands.run([*train, "init=zeros,xavier", "seed.value=0,1", "trainer.max_epochs=3"], check=True)
    code, out, err = command("draw_curves", "runs=outputs/main", "figure=c.png")
    assert (code, err) == (0, "") and is_picture(empty_folder / "c.png")
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:-1]}
    assert list(rows) == ["xavier", "zeros"] and rows["zeros"][1] == "2"
    records = [
        json.loads(path.read_text())
        for path in (empty_folder / "outputs/main").glob("*init=zeros*/record.json")
    ]
    best = [record["best"]["value"] for record in records]
    assert float(rows["zeros"][2]) == pytest.approx(np.mean(best), abs=6e-5)
    assert float(rows["zeros"][4]) == pytest.approx(np.std(best, ddof=1), abs=6e-5)
    by_seed = command("draw_curves", "runs=outputs/main", "by=seed.value", "metric=val/loss")[1]
    assert [line.split()[0] for line in by_seed.splitlines()[1:-1]] == ["value=0", "value=1"]
    for bad, told in (("by=model", "no run overrides this key"), ("metric=val/r2", "there is train/loss")):
        code, out, err = command("draw_curves", "runs=outputs/main", bad)
        assert code == 2 and told in err
    one = next((empty_folder / "outputs/main").glob("*init=xavier*seed=0*"))
    code, out, err = command("draw_early_stopping", f"run={one.parent}/*init=xavier*seed=0*", "figure=e.png")
    assert (code, err) == (0, "") and is_picture(empty_folder / "e.png")
    assert out.splitlines()[1] == "stopped       after epoch 2: the last epoch"
    code, _, err = command("draw_early_stopping", f"run={one.parent}/*seed=0*")
    assert code == 2 and "must match one folder, but 2 match" in err


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("draw_init", ["init=xavierr"], "did you mean 'xavier'?"),
        ("draw_init", ["init=xavier", "init.std=1"], "init=xavier has no 'std'"),
        ("draw_init", ["init=normal", "init.std=-1"], "init.std=-1: must be in [0, inf)"),
        ("draw_depth", ["nets=0"], "nets=0: must be a whole number from 1"),
        ("draw_depth", ["std=none", "init=none"], "one of them must name something"),
        ("draw_depth", ["model.hidden=[5]"], "must have at least two layers"),
        ("draw_schedules", ["scale=cubic"], "scale=cubic: must be linear or log"),
        ("draw_schedules", ["scheduler=step,step"], "each named once"),
        ("draw_schedules", ["scheduler=step", "scheduler.gamma=-1", "data=wine"], "scheduler.gamma=-1"),
        ("draw_dropout", ["regularizer=l1"], "regularizer=l1: is set here"),
        (
            "draw_dropout",
            ["regularizer.dropout.p=1.5", *TINY],
            "regularizer.dropout.p=1.5: must be in [0, 1)",
        ),
        ("draw_sparsity", ["regularizer=l3"], "l3"),
        ("draw_symmetry", ["init=xavier", "model.hidden=[]", "data=wine"], "choose model=mlp"),
        ("draw_curves", [], "runs=FOLDER: must be given"),
        ("draw_curves", ["runs=nowhere"], "must hold a run that has ended"),
        ("draw_early_stopping", ["run=nowhere"], "must match one folder, but 0 match"),
        ("draw_early_stopping", ["run=."], "has ended and has a best epoch"),
        ("draw_early_stopping", ["run=.", "early_stop.patience=3"], "does not go with run="),
        ("show_seed", ["seed.value=-1"], "seed.value=-1: must be in [0, 4294967295]"),
        ("show_seed", ["init=xavier"], "must be seed.KEY=VALUE"),
        *((name, ["what"], "what: must be") for name in SCRIPTS),
        *((name, ["figure=a.doc"], "figure=a.doc") for name in SCRIPTS),
    ],
)
def test_bad_input_gets_one_clear_answer(name, arguments, told, command, empty_folder):
    code, out, err = command(name, *arguments)
    assert code == 2 and "figure" not in out
    assert told in err and err.startswith("error: ") and "Traceback" not in err
    assert not (empty_folder / "outputs" / "figures").exists()


def test_ctrl_c_ends_with_its_code(command, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "finish", interrupted)
    code, _, err = command("draw_early_stopping")
    assert (code, err) == (130, "error: interrupted\n")


# --- language and file


@pytest.mark.parametrize("name", ["draw_early_stopping", pytest.param("draw_init", marks=pytest.mark.slow)])
def test_labels_are_chinese_where_the_locale_asks_and_a_font_can(name, command, monkeypatch, empty_folder):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    figure.chinese_font.cache_clear()
    if not figure.chinese_font():
        pytest.skip("no Chinese font is installed")
    assert figure.label("epoch", "轮次") == "轮次"
    code, _, err = command(name, "figure=zh.png")
    assert (code, err) == (0, "")  # matplotlib warns of a glyph that its font lacks
    assert is_picture(empty_folder / "zh.png")


def test_a_font_that_matplotlib_has_not_listed_yet_is_found(monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    figure.chinese_font.cache_clear()
    if not (found := figure.chinese_font()):
        pytest.skip("no Chinese font is installed")
    manager = font_manager.fontManager
    files = {font.fname for font in manager.ttflist if font.name == found}  # one may hold several fonts
    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.fname not in files])
    figure.chinese_font.cache_clear()
    assert figure.chinese_font() == found


def test_labels_are_english_without_a_font(monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setattr(figure, "CHINESE_FONTS", ("No Such Font",))
    figure.chinese_font.cache_clear()
    assert figure.label("epoch", "轮次") == "epoch"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_saved_in_the_format_of_its_name(suffix, tmp_path):
    picture = figure.new()
    picture.add_subplot().plot([1, 3, 2])
    figure.finish(picture, tmp_path / "new" / f"a.{suffix}")
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert (tmp_path / "new" / f"a.{suffix}").read_bytes().startswith(begins[suffix])
