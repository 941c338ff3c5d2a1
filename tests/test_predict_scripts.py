"""Scripts that use a trained run: new rows predicted, the network exported, a last fit on all rows."""

import csv
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from small import ENVIRONMENT, PLAIN, ROOT, WINE, composed

from sweepwise import Predictor, run
from sweepwise.data.sklearn_sets import wine
from sweepwise.errors import Failure, UsageError
from sweepwise.predict import exported
from sweepwise.results.choice import best_run
from sweepwise.store import record
from sweepwise.store.request import identity

PREDICT, EXPORT, LAST_FIT = (str(ROOT / f"scripts/{name}.py") for name in ("predict", "export", "last_fit"))
SHORT = [*PLAIN, "trainer.device=cpu", "monitor=none", "model.hidden=[8]"]
DRAW = np.random.default_rng(0)
ONNX = all(importlib.util.find_spec(name) for name in exported.NEEDED)

pytestmark = pytest.mark.usefixtures("empty_folder")


def table(rows=120) -> pandas.DataFrame:
    made = pandas.DataFrame(
        {
            "size": np.where(DRAW.random(rows) < 0.1, np.nan, DRAW.normal(50, 9, rows)),
            "city": DRAW.choice(["Ulm", "Köln, am Rhein"], rows),
            "price": DRAW.normal(2000, 300, rows),
        }
    )
    return made.assign(kind=np.where(made["size"].fillna(50) > 50, "large", "small"))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder with a.csv and a run on it."""
    home = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        table().to_csv("a.csv", index=False)
        options = ["data=table", "data.path=a.csv", "data.missing=median", "trainer.max_epochs=3"]
        run.train(composed(*options, *SHORT))
    return home


@pytest.fixture
def trained(once, empty_folder):
    """The folder of a run on a.csv in the folder of the test."""
    shutil.copytree(once, empty_folder, symlinks=True, dirs_exist_ok=True)
    (folder,) = Path("outputs/main").glob("data=*")
    return folder


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_rows_are_predicted_as_csv(trained, as_command, empty_folder):
    code, out, err = as_command(PREDICT, str(trained), "a.csv")
    assert (code, err) == (0, "")
    header, *lines = rows_of(out)
    assert header == ["prediction", "probability_large", "probability_small"]
    predictor = run(trained)
    assert [line[0] for line in lines] == predictor.predict("a.csv").tolist()
    shares = np.array([line[1:] for line in lines], float)
    np.testing.assert_allclose(shares, predictor.probabilities("a.csv"), rtol=1e-8)

    code, out, err = as_command(
        PREDICT, "outputs/main", "a.csv", "output=o.csv", "checkpoint=last", "device=cpu"
    )
    assert (code, out) == (0, "predicted     120 rows, in o.csv\n")
    assert err.startswith(f"run           {trained}: best val/loss ")
    last = run(trained, checkpoint="last").predict("a.csv").tolist()
    assert [line[0] for line in rows_of((empty_folder / "o.csv").read_text())[1:]] == last


def test_unknown_categories_are_noted_beside_the_rows(trained, as_command):
    table(5).assign(city="Bonn").to_csv("new.csv", index=False)
    code, out, err = as_command(PREDICT, str(trained), "new.csv")
    assert code == 0 and len(rows_of(out)) == 6
    assert "note" in err and "5 of 5 rows hold no category that the run knows" in " ".join(err.split())


def test_a_csv_file_may_be_written_in_another_way(trained, as_command, empty_folder):
    table(9).to_csv("new.csv", index=False)
    pandas.read_csv("new.csv").to_csv("other.csv", index=False, sep=";", decimal=",")
    _, expected, _ = as_command(PREDICT, str(trained), "new.csv")
    found = as_command(PREDICT, str(trained), "other.csv", "delimiter=semicolon", "decimal=comma")
    assert found == (0, expected, "")
    (empty_folder / "other.csv").write_text("size;city;price\n50;Ulm;2000\n")
    code, _, err = as_command(PREDICT, str(trained), "other.csv")
    assert code == 2 and err.endswith("; set delimiter=semicolon\n")


def test_values_are_predicted_without_probabilities(as_command):
    made = table().drop(columns="kind")
    made.to_csv("b.csv", index=False)
    request = composed("data=table", "data.path=b.csv", "data.missing=median", *SHORT, "trainer.max_epochs=1")
    run.train(request)
    code, out, _ = as_command(PREDICT, str(request.folder), "b.csv")
    header, *lines = rows_of(out)
    assert (code, header) == (0, ["prediction"])
    assert [float(line[0]) for line in lines] == run(request.folder).predict("b.csv").tolist()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "RUN: must be given, the folder of a run; --help shows examples"),
        (["RUN"], "DATA: must be given, a csv, parquet or npz file; --help shows examples"),
        (["RUN", "output=o.csv"], "DATA: must be given"),
        (["nowhere", "a.csv"], "nowhere: no such folder"),
        (["void", "a.csv"], "void: must hold the folder of a run, but holds none"),
        (["RUN", "nowhere.csv"], "nowhere.csv: no such file, seen from"),
        (["RUN", "a.csv", "b.csv"], "b.csv: must be KEY=VALUE"),
        (
            ["RUN", "a.csv", "out=o.csv"],
            "out=o.csv: is not a setting of this script; it takes output=, ",
        ),
        (["RUN", "a.csv", "checkpoint=worst"], "checkpoint=worst: must be best or last"),
        (["RUN", "a.csv", "decimal=dot"], "decimal=dot: must be point or comma"),
        (["RUN", "a.csv", "delimiter=ab"], "a.csv: delimiter=ab: must be one character other than a quote"),
        (["RUN", "a.csv", "device=tpu9"], "device=tpu9: cannot be used here"),
        (["RUN", "a.csv", "output=no/o.csv"], "output=no/o.csv: must be a file in a folder that exists"),
        (["RUN", "a.csv", "output=a.csv"], "output=a.csv: must not be a folder, or the file that is read"),
        (["RUN", "bad.csv"], "bad.csv: column 'size', 'price': is absent; there is city"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_line(arguments, told, trained, as_command, empty_folder):
    (empty_folder / "bad.csv").write_text("city\nUlm\n")
    (empty_folder / "void").mkdir(exist_ok=True)
    before = (empty_folder / "a.csv").read_bytes()
    given = [str(trained) if argument == "RUN" else argument for argument in arguments]
    code, out, err = as_command(PREDICT, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {told}")
    assert (empty_folder / "a.csv").read_bytes() == before and not (empty_folder / "o.csv").exists()


@pytest.mark.slow
def test_a_reader_may_leave(trained):
    pandas.concat([pandas.read_csv("a.csv")] * 100).to_csv("long.csv", index=False)
    command = f"'{sys.executable}' '{PREDICT}' '{trained}' long.csv | head -2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr == "" and done.stdout.splitlines()[-1] == "0" and len(done.stdout.splitlines()) == 3


# --- export


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_an_exported_network_needs_nothing_of_ours(ending, trained, as_command, empty_folder):
    if ending == "onnx" and not ONNX:
        pytest.skip("needs the extra 'export'")
    code, out, err = as_command(EXPORT, str(trained), f"m.{ending}")
    assert (code, err) == (0, "")
    assert "column 1, city: 0 = Köln, am Rhein, 1 = Ulm, -1 none; NaN where missing" in out
    made = table(33)
    made.loc[3, "city"] = None
    codes = made.city.map({"Köln, am Rhein": 0.0, "Ulm": 1.0})
    x = np.column_stack([made["size"], codes, made.price])
    predictor = run(trained)
    assert np.array_equal(predictor.preparation.coded(made), x, equal_nan=True)
    if ending == "pt2":
        extra = {"sweepwise.json": ""}
        found = torch.export.load("m.pt2", extra_files=extra).module()(torch.from_numpy(x)).detach().numpy()
        description = extra["sweepwise.json"]
    else:
        import onnx
        import onnxruntime

        (found,) = onnxruntime.InferenceSession("m.onnx").run(None, {"rows": x})
        description = onnx.load("m.onnx").metadata_props[0].value
    np.testing.assert_allclose(found, predictor.probabilities(made), atol=1e-6)
    fields = json.loads(description)
    assert fields["labels"] == ["large", "small"]
    assert [column["name"] for column in fields["columns"]] == ["size", "city", "price"]


EVERY = {
    "a scaled target": ["data=diabetes", "model.hidden=[8]"],
    "averages": ["data=wine", "model.hidden=[8]", "trainer.ema=0.9"],
    "digits": ["data=digits", "data.standardize=false"],
    "linear": ["data=moons", "model=linear"],
    "bfloat16": ["data=wine", "model.hidden=[8]", "trainer.precision=bf16"],
    "spectral norm": ["data=wine", "model.hidden=[8]", "regularizer=spectral_norm"],
    "cnn1d": ["data=digits", "model=cnn1d"],
    "cnn2d": ["data=digits", "data.image=true", "model=cnn2d"],
    "resnet": ["data=digits", "data.image=true", "model=resnet"],
    "gru": ["data=digits", "model=gru"],
    "lstm": ["data=digits", "model=lstm"],
    "transformer": ["data=digits", "model=transformer"],
    "deep_tanh": ["data=digits", "model=deep_tanh"],
    "channels last": ["data=table", "data.path=a.npz", "data.channels=last", "model=cnn2d"],
    "no channels": ["data=table", "data.path=b.npz", "data.channels=none", "model=cnn2d"],
}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
@pytest.mark.parametrize("name", EVERY)
def test_every_kind_of_run_can_be_exported(name, ending, empty_folder):
    if ending == "onnx" and not ONNX:
        pytest.skip("needs the extra 'export'")
    for file, shape in {"a": (60, 8, 8, 3), "b": (60, 8, 8)}.items():
        np.savez(f"{file}.npz", x=DRAW.integers(0, 256, shape).astype(np.uint8), y=np.arange(60) % 2)
    request = composed(*EVERY[name], *PLAIN, "trainer.device=cpu", "trainer.max_epochs=1", "monitor=none")
    run.train(request)
    done = exported.export(run(request.folder), empty_folder / f"m.{ending}")
    assert done.path.stat().st_size == done.size and done.difference < (0.02 if name == "bfloat16" else 1e-2)


def test_a_network_that_computes_something_else_is_not_written(trained, monkeypatch, empty_folder):
    predictor = run(trained)
    with pytest.raises(UsageError, match=r"m\.h5: must end in \.pt2 or \.onnx"):
        exported.export(predictor, empty_folder / "m.h5")
    monkeypatch.setattr(exported, "NEEDED", ("onnx_of_nobody",))
    with pytest.raises(
        UsageError, match=r"m\.onnx: needs onnx_of_nobody, of the extra 'export': pip install"
    ):
        exported.export(predictor, empty_folder / "m.onnx")
    monkeypatch.setattr(exported, "_program", lambda *args: None)
    for change, told in ((0.01, "differ by up to 0.01"), (np.nan, "differ by up to nan")):

        def written(program, description, classes, change=change):
            def computed(x):
                return (
                    predictor.probabilities_of(predictor.outputs_of(predictor.preparation.inputs(x))) + change
                )

            return b"", computed

        monkeypatch.setattr(exported, "_pt2", written)
        with pytest.raises(Failure, match=told):
            exported.export(predictor, empty_folder / "m.pt2")
    assert not list(empty_folder.glob("m.*"))


# --- the last fit


def test_the_last_fit_is_the_same_run_on_all_rows(as_command):
    overrides = [*WINE, *SHORT, "scheduler=cosine", "trainer.max_epochs=9"]
    request = composed(*overrides)
    run.train(request)
    known = record.read(request.folder)
    epochs = known["best"]["epoch"] + 1
    code, out, err = as_command(LAST_FIT, "outputs/main", "name=all")
    assert code == 0 and "178 train, 0 val, 0 test" in out and err.startswith("run ")
    last = composed(
        *overrides, "data.validation=0", "data.test=0", "early_stop=after", f"early_stop.epochs={epochs}"
    )
    (folder,) = [path for path in (last.home.parent / "all").glob("[!.]*") if path.is_dir()]
    assert folder.name.endswith(identity(last.config)), "it is what train.py would train"
    ended = record.read(folder)
    assert ended["stopped"]["epoch"] + 1 == epochs and ended["best"]["epoch"] + 1 == epochs
    assert Predictor.read(folder).predict(wine().x).shape == (178,)
    code, out, _ = as_command(LAST_FIT, str(request.folder), "name=all")
    assert code == 0 and "before, in outputs/all" in out
    code, _, err = as_command(LAST_FIT, str(folder))
    assert (code, err) == (2, "error: data.validation=0: the run has trained on all rows already\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "RUN: must be given"),
        (["nowhere"], "nowhere: is not the folder of a run"),
        (["RUN", "name=a/b"], "name=a/b: must consist of letters"),
        (["RUN", "fresh=yes"], "fresh=yes: must be true or false"),
    ],
)
def test_a_last_fit_that_cannot_be_meant_is_refused(arguments, told, trained, as_command):
    code, _, err = as_command(LAST_FIT, *[str(trained) if a == "RUN" else a for a in arguments])
    assert code == 2 and err.startswith(f"error: {told}")


def test_epochs_with_more_rows_have_more_steps(as_command):
    request = composed(*WINE, *SHORT, "trainer.max_epochs=9", "trainer.max_steps=17")
    run.train(request)
    assert record.read(request.folder)["stopped"]["epoch"] == 2  # 107 rows are 7 batches of 16
    code, out, _ = as_command(LAST_FIT, str(request.folder))
    assert code == 0 and "train         30 steps of batch 16" in out  # 178 are 12: 17 * 12 / 7
    (folder,) = [path for path in (request.home.parent / "last_fit").glob("[!.]*") if path.is_dir()]
    ended = record.read(folder)
    assert ended["stopped"]["epoch"] == record.read(request.folder)["best"]["epoch"]
    assert "trainer.max_steps=30" in ended["overrides"] and best_run("outputs/main") == request.folder
