"""A trained run used on new rows: to the bit what it measured on its test part."""

import json
import sys

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import PLAIN, WINE, composed
from torch import nn

import sweepwise
from sweepwise import Arrays, Predictor, Settings, build, fit, run, split
from sweepwise.data.loading import evaluation_batch_size
from sweepwise.data.sklearn_sets import diabetes, wine
from sweepwise.errors import Failure, UsageError
from sweepwise.learner.module import ModuleLearner
from sweepwise.model.mlp import mlp
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.run.from_config import bind_all
from sweepwise.store import record

pytestmark = pytest.mark.usefixtures("empty_folder")

SHORT = [*PLAIN, "trainer.device=cpu", "trainer.max_epochs=2", "monitor=none"]
STORED = "data.split_order=stored"  # the test part is the last rows
DRAW = np.random.default_rng(0)


@pytest.fixture
def measured(monkeypatch):
    """The outputs that runs have measured at their ends, in order: of all on 'val', then of all on 'test'."""
    seen = []
    original = ModuleLearner.predict

    def predict(self, number, batches):
        outputs = original(self, number, batches)
        seen.append(torch.cat(outputs).clone())
        return outputs

    monkeypatch.setattr(ModuleLearner, "predict", predict)
    return seen


def patients(rows=150) -> pandas.DataFrame:
    """A table with text, numbers that are categories, gaps, and classes of text."""
    made = pandas.DataFrame(
        {
            "age": np.where(DRAW.random(rows) < 0.1, np.nan, DRAW.integers(18, 80, rows)),
            "city": DRAW.choice(["Köln", "Ulm", "Bad Ems"], rows),
            "height": DRAW.normal(170, 10, rows),
            "code": DRAW.choice(["01", "10"], rows),
        }
    )
    high = made.height + 5 * (made.city == "Ulm") + DRAW.normal(size=rows) > 172
    return made.assign(risk=np.where(high, "high, or so", "low"), price=made.height * 1000 + 25)


def make_files() -> None:
    made = patients()
    made.drop(columns="price").to_csv("classes.csv", index=False)
    made.drop(columns="risk").to_csv("prices.csv", index=False)
    x, y = DRAW.integers(0, 256, (120, 6, 6, 3)).astype(np.uint8), DRAW.integers(0, 3, 120)
    np.savez("images.npz", x=x, y=np.array(["ant", "bee", "cat"])[y])
    np.save("x.npy", DRAW.normal(5, 3, (120, 7)))
    np.save("y.npy", y * 10)


def table(name):
    return ["data=table", f"data.path={name}.csv", "data.categories=[code]", "data.missing=indicator"]


FAST = {
    "text, gaps and averages": (*table("classes"), "model.hidden=[16]", "trainer.ema=0.9"),
    "a scaled target": (*table("prices"), "model.hidden=[16]"),
    "images, channels last": (
        *("data=table", "data.path=images.npz", "data.channels=last"),
        *("model=cnn2d", "model.channels=[4]", "model.kernels=[3]", "model.norm=batch"),
    ),
}
SLOW = {
    "rows on disk": ("data=memmap", "data.x=x.npy", "data.y=y.npy"),
    "digits": ("data=digits", "data.standardize=false"),
    "digits as images": ("data=digits", "data.image=true", "model=resnet"),
    "regression": ("data=diabetes",),
    "dropout": ("data=wine", "regularizer=dropout", "model.dropout=0.0"),
    "spectral norm": ("data=wine", "regularizer=[spectral_norm,l2]"),
    "bfloat16": ("data=wine", "trainer.precision=bf16"),
    "batches of an evaluation": ("data=blobs", "data.points=11000", "model.hidden=[16]"),
    "gru": ("data=digits", "model=gru"),
    "lstm": ("data=digits", "model=lstm"),
    "transformer": ("data=digits", "model=transformer"),
    "cnn1d": ("data=digits", "model=cnn1d"),
    "deep": ("data=digits", "model=deep_tanh"),
    "two threads": ("data=digits", "trainer.threads=2"),
    "equal features": ("data=moons", "model=linear"),
}


def raw_rows(request):
    """The rows of the test part in the form in which a person has them: the last of the file or the set."""
    data = request.config["data"]
    if str(data.get("path", "")).endswith(".csv"):
        return pandas.read_csv(data["path"], dtype={"code": str})
    if data.get("path"):
        return np.load(data["path"])["x"]
    return bind_all(request.config)["data"].target().x


def check(name, overrides, measured):
    make_files()
    order = STORED if overrides[0] in ("data=table", "data=memmap") else f"+{STORED}"
    request = composed(*overrides, *SHORT, order)
    ended = run.train(request).run
    predictor = run(request.folder)
    outputs = predictor.outputs(raw_rows(request)[-len(measured[-1]) :])
    assert np.array_equal(outputs, measured[-1].numpy())
    parts = run.build(request)
    size = evaluation_batch_size(parts.data.test)  # the loss is added up batch by batch
    pieces = zip(torch.from_numpy(outputs)[None].split(size, 1), parts.data.test.y.split(size), strict=True)
    (again,) = parts.task.measure(pieces)
    known = record.read(request.folder)["best"]["measured"]["test"]
    assert repr({key: again[key] for key in known}) == repr(ended.final["test"])  # one may be NaN
    assert [again["loss"]] == [known["loss"]], name


@pytest.mark.parametrize("name", FAST)
def test_outputs_are_to_the_bit_those_of_the_test_part(name, measured):
    check(name, FAST[name], measured)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_outputs_of_every_kind_are_to_the_bit_those_of_the_test_part(name, measured):
    check(name, SLOW[name], measured)


def test_runs_of_a_group_are_used_as_if_alone(measured):
    requests = [
        composed(*WINE, f"seed.value={seed}", "model.hidden=[8]", *SHORT, f"+{STORED}") for seed in range(3)
    ]
    run.train_together(requests)
    rows = wine().x[-36:]
    for request, outputs in zip(requests, measured[3:], strict=True):
        assert record.read(request.folder)["environment"]["fused"]
        assert np.array_equal(run(request.folder).outputs(rows), outputs.numpy())


def test_labels_probabilities_and_values_are_in_the_units_of_the_data(measured):
    make_files()
    for kind in ("classes", "prices"):
        run.train(composed(*table(kind), "model.hidden=[8]", f"name={kind}", *SHORT, STORED))
    rows = patients(9)
    classes, prices = (sweepwise.best(f"outputs/{kind}") for kind in ("classes", "prices"))
    logits = classes.outputs(rows).astype(float)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(classes.probabilities(rows), shares, rtol=1e-12)
    assert classes.predict(rows).tolist() == [("high, or so", "low")[place] for place in logits.argmax(1)]
    known = pandas.read_csv("prices.csv").price[: round(0.6 * 150)]  # the training part
    expected = prices.outputs(rows)[:, 0] * np.std(known) + np.mean(known)
    np.testing.assert_allclose(prices.predict(rows), expected, rtol=1e-6)
    with pytest.raises(UsageError, match="is a regression, which has no probabilities"):
        prices.probabilities(rows)
    assert repr(classes).endswith("8 features -> 2 classes)")


def trained(*overrides):
    request = composed(*WINE, "model.hidden=[8]", *SHORT, *overrides)
    run.train(request)
    return request.folder


def test_the_newest_weights_and_their_average_can_be_asked_for():
    folder = trained("trainer.ema=0.9", "trainer.max_epochs=3")
    saved = load_file(folder / "checkpoints/last/weights.safetensors")
    model = mlp((13,), 3, hidden=[8]).eval()
    model.load_state_dict({name: saved[f"ema/{name}"] for name in model.state_dict()})
    rows = wine().x
    last = run(folder, checkpoint="last")
    with torch.no_grad():
        expected = model(torch.from_numpy(last.preparation(rows)))
    np.testing.assert_allclose(last.outputs(rows), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="checkpoint=worst: must be best or last"):
        run(folder, checkpoint="worst")


def test_what_is_used_changes_nothing_outside():
    folder = trained()
    torch.set_num_threads(2)
    torch.set_flush_denormal(False)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    predictor = run(folder)
    rows = wine().x
    first = predictor.predict(rows)
    assert torch.get_num_threads() == 2 and torch.is_grad_enabled()
    least = torch.tensor([2.0**-1040], dtype=torch.float64)
    assert (least + least).item() > 0, "denormal numbers count again"
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
    assert files == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert np.array_equal(rows, wine().x) and first.tolist() == predictor.predict(rows).tolist()
    assert predictor.predict(rows[:0]).shape == (0,) and predictor.probabilities(rows[:0]).shape == (0, 3)


def test_a_run_that_was_built_in_python():
    data = split(diabetes(), split_order="stored", batch_size=32)
    adam, settings = torch.optim.Adam, Settings(max_epochs=2, device="cpu")
    torch.manual_seed(0)
    parts = build(
        data=data, model=nn.Linear(10, 1), optimizer=adam, settings=settings, regularizers=[SpectralNorm()]
    )
    fitted = fit(parts, "mine")
    fresh = nn.Linear(10, 1)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    predictor = run("mine", model=fresh, regularizers=[SpectralNorm()])
    outputs = torch.from_numpy(predictor.outputs(diabetes().x[-88:]))
    assert ((outputs[:, 0] - data.test.y) ** 2).mean().item() == pytest.approx(fitted.metrics["test/loss"])
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())
    with pytest.raises(UsageError, match=r"mine: was trained from Python, .*give model=, as build was"):
        run("mine")
    with pytest.raises(Failure, match="its weights are those of another network, in bias"):
        run("mine", model=nn.Linear(10, 1, bias=False), regularizers=[SpectralNorm()])


def test_folders_that_cannot_be_used_are_refused(empty_folder):
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        run("nowhere")
    (empty_folder / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: must be the folder of a run"):
        run("empty")
    folder = trained()
    with pytest.raises(UsageError, match=r"and is that of an experiment; sweepwise\.best takes its best run"):
        run(folder.parent)
    assert sweepwise.best(folder).labels == run(folder).labels  # the best of one run is that one
    with pytest.raises(UsageError, match="device=meta: cannot be used here"):
        run(folder, device="meta")
    with pytest.raises(UsageError, match="model='mlp': must be a network, or a function that makes one"):
        run(folder, model="mlp")
    kept = (folder / "prediction.json").read_bytes()
    (folder / "prediction.json").unlink()  # it is a shared one
    fields = json.loads(kept)
    changes = [
        {"mean": [0, 1]},
        {"shape": 3},
        {"labels": None},
        {"columns": [{"name": "a"}]},
        {"reading": []},
    ]
    nets = [
        {"threads": 0},
        {"precision": "x"},
        {"init_seed": 0.5},
        {"config": {"model": {}, "regularizer": {}}},
    ]
    changes += [{"network": fields["network"] | change} for change in nets]
    damaged = {
        "is damaged": [b"[]", b"{}", *(json.dumps(fields | change).encode() for change in changes)],
        "cannot be read": [b"", kept[:-9], b"\xff", b"[" * 100_000],
    }
    for why, contents in damaged.items():
        for content in contents:
            (folder / "prediction.json").write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
            with pytest.raises(UsageError, match=why):
                run(folder)
    other = fields["network"] | {"config": fields["network"]["config"] | {"model": {"_target_": "os.system"}}}
    (folder / "prediction.json").write_text(json.dumps(fields | {"network": other}))
    with pytest.raises(UsageError, match=r"model\._target_=os\.system: must be one of"):
        run(folder)
    large = {"_target_": "sweepwise.model.mlp.mlp", "hidden": [10**15]}
    other = fields["network"] | {"config": fields["network"]["config"] | {"model": large}}
    (folder / "prediction.json").write_text(json.dumps(fields | {"network": other}))
    with pytest.raises(Failure, match="out of memory"):
        run(folder)
    (folder / "prediction.json").unlink()
    with pytest.raises(UsageError, match=r"holds no prediction\.json, .*train it again with fresh=true"):
        run(folder)
    (folder / "prediction.json").write_bytes(kept)
    known = json.loads((folder / "record.json").read_bytes())
    for seed, why in ((None, "damaged"), ("x", "damaged"), ("missing", "has no init_seed")):
        changed = {key: value for key, value in known.items() if key != "init_seed"}
        changed |= {} if seed == "missing" else {"init_seed": seed}
        (folder / "record.json").write_text(json.dumps(changed))
        with pytest.raises(UsageError, match=f"the seed of its network is not known .*{why}"):
            run(folder)
    (folder / "record.json").write_text(json.dumps(known))
    weights = folder / "checkpoints/best/weights.safetensors"
    save_file({**load_file(weights), "more": torch.zeros(1)}, weights)
    with pytest.raises(Failure, match=r"cannot be used: weights\.safetensors has"):
        run(folder)


def test_copies_of_folders_need_no_links(empty_folder):
    """As scp -r makes them, where what a link leads to is copied, or nothing is."""
    folder = trained()
    rows, expected = wine().x, run(folder).outputs(wine().x)
    for link in ("best", "last"):
        (folder / "checkpoints" / link).unlink()
    assert np.array_equal(run(folder).outputs(rows), expected)
    assert run(folder, checkpoint="last").outputs(rows).shape == (178, 3)
    for path in (folder / "checkpoints").glob("best-*"):
        path.rename(path.with_name(f"damaged-{path.name}"))
    with pytest.raises(Failure, match="has no best weights; checkpoint=last takes the newest"):
        run(folder)


def test_labels_of_any_kind_stay_what_they_are(empty_folder):
    x = DRAW.normal(size=(60, 2))
    adam, settings = torch.optim.Adam, Settings(max_epochs=1, device="cpu")
    for number, labels in enumerate([("no", "yes"), (False, True), (1, 2**63), (0.5, 1.5), ("\ud800", "b")]):
        data = split(Arrays("own", x, np.arange(60) % 2, 2, labels=labels), batch_size=16)
        fit(build(data=data, model=nn.Linear(2, 2), optimizer=adam, settings=settings), f"run{number}")
        found = Predictor.read(f"run{number}", model=nn.Linear(2, 2)).predict(x).tolist()
        assert {(type(label), label) for label in found} <= {(type(label), label) for label in labels}
    with pytest.raises(UsageError, match="labels: must name each of the 2 classes, and are 3"):
        Arrays("own", x, np.arange(60) % 2, 2, labels=("a", "b", "c"))


def test_the_package_of_runs_can_still_be_used_as_one():
    assert sweepwise.run is sys.modules["sweepwise.run"] and callable(sweepwise.run.train)
