"""A run from a composed config to its folder: every option of every group, and every bit twice."""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score
from small import CONF, SMALL, composed
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from sweepwise import run
from sweepwise.config.groups import GROUPS
from sweepwise.data.sklearn_sets import wine
from sweepwise.early_stop import sign
from sweepwise.errors import UsageError
from sweepwise.learner.fused import FusedLearner
from sweepwise.predict import Predictor
from sweepwise.provenance import changes, origin, sources
from sweepwise.store import claim as claim_module
from sweepwise.store import record
from sweepwise.store.claim import Busy
from sweepwise.store.request import Request

EVERY = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment")
OPTIONS = [f"{path.parent.name}={path.stem}" for path in EVERY]
# What an option needs beside itself: two steps are less than an epoch, which patience must fit into.
# FILES stands for the folder of `data_files`.
IMAGES = ["data=digits", "data.image=true"]
NEEDS = {
    "data=memmap": ["data.x=FILES/x.npy", "data.y=FILES/y.npy", "data.batch_size=8"],
    "data=table": ["data.path=FILES/table.csv"],
    **{
        f"data={name}": ["data.root=FILES", "data.batch_size=8"]
        for name in ("mnist", "fashion_mnist", "cifar10")
    },
    "early_stop=patience": ["early_stop.patience=0"],
    "init=checkpoint": [f"init.path='{Path(__file__).parent}/data/linear_wine.safetensors'", "model=linear"],
    "model=cnn2d": IMAGES,
    "model=resnet": IMAGES,
    "optimizer=other": ["optimizer._target_=torch.optim.Adamax", "optimizer.lr=0.002"],
    "scheduler=other": ["scheduler._target_=torch.optim.swa_utils.SWALR", "+scheduler.swa_lr=1e-4"],
    **{f"regularizer={name}": IMAGES for name in ("cutout", "flip", "shift_crop", "rotation")},
}


@pytest.fixture(autouse=True, scope="module")
def torch_settings():
    """A run sets what is global in torch; give it back."""
    strict = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(strict)


def request(home: Path, *overrides: str, small: bool = True) -> Request:
    given = [*(SMALL if small else []), f"output_dir={home}", *overrides]
    return Request(composed(*given).config, list(overrides))


def train(home: Path, *overrides: str, small: bool = True) -> tuple[Path, run.Result]:
    asked = request(home, *overrides, small=small)
    return asked.folder, run.train(asked)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder: Path) -> list[tuple]:
    """Step, tag and value of all that the event file holds, without times."""
    (path,) = folder.glob("events.out.tfevents.*")
    found = []
    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            what = getattr(value, kind)
            found.append((event.step, value.tag, kind, what if kind == "simple_value" else str(what)))
    return found


def weights(folder: Path) -> dict[str, bytes]:
    found = {name: folder / "checkpoints" / name / "weights.safetensors" for name in ("best", "last")}
    return {name: path.read_bytes() for name, path in found.items() if path.exists()}


# --- every option


def test_every_group_of_the_defaults_is_known_to_the_run():
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")} - {"experiment"}
    assert groups == set(GROUPS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_binds_and_trains_two_steps(option, tmp_path, data_files):
    needs = [need.replace("FILES", str(data_files)) for need in NEEDS.get(option, [])]
    overrides = ["early_stop=none", "data=wine", option, *needs, "trainer.max_steps=2"]
    folder, result = train(tmp_path, *overrides, "progress=false", "trainer.device=cpu", small=False)
    assert (result.exit_code, result.run.status) == (0, "finished")
    found = record.read(folder)
    assert found["stopped"]["step"] == 1 and found["best"]["step"] == 1
    assert np.isfinite([found["last"][f"{part}/loss"] for part in ("train", "val")]).all()
    assert np.isfinite([found["best"]["metrics"][f"{part}/loss"] for part in ("val", "test")]).all()
    assert weights(folder)["best"] == weights(folder)["last"]


def test_every_option_says_when_to_use_it():
    for path in CONF.glob("*/*.yaml"):
        told = [line for line in path.read_text().splitlines() if line.startswith("# ")]
        assert len([line for line in told if "@package" not in line]) >= 1, path


@pytest.mark.parametrize("names", [["l1", "dropout"], ["weight_decay", "l2", "elastic_net"], ["none"]])
def test_regularizers_together(names, tmp_path):
    asked = request(tmp_path, f"regularizer=[{','.join(names)}]", "trainer.max_steps=2")
    assert list(asked.config["regularizer"]) == names
    assert run.train(asked).exit_code == 0


def test_each_of_several_regularizers_acts(tmp_path):
    both = ["regularizer=[l1,dropout]", "regularizer.l1.coefficient=0.1", "regularizer.dropout.p=0.5"]
    without_l1 = [*both, "regularizer.l1.coefficient=0"]
    without_dropout = [*both, "regularizer.dropout.p=0"]
    neither = [*without_l1, "regularizer.dropout.p=0"]
    found = [
        weights(train(tmp_path, "trainer.max_epochs=1", *overrides)[0])["last"]
        for overrides in (both, without_l1, without_dropout, neither, ["regularizer=none"])
    ]
    assert len(set(found)) == 4 and found[3] == found[4]


# --- the parts are what was asked for


def test_seeds_move_what_they_are_for_and_nothing_else(tmp_path):
    dropout = ["regularizer=dropout", "trainer.max_epochs=1"]

    def parts(*overrides):
        built = run.build(request(tmp_path, *dropout, *overrides))
        return built.model.state_dict()["linear0.weight"].clone(), built.seeds, built.data.train.x

    weight, seeds, x = parts()
    other = parts("seed.init=1")
    assert not torch.equal(weight, other[0]) and torch.equal(x, other[2])
    same = parts("seed.data=1", "seed.noise=1")
    assert torch.equal(weight, same[0]) and (same[1].data, same[1].noise, same[1].init) == (1, 1, 0)
    assert (seeds.value, seeds.data, seeds.init, seeds.noise) == (0, 0, 0, 0)
    every = parts("seed.value=3")[1]
    assert (every.data, every.init, every.noise) == (3, 3, 3)
    found = [
        weights(train(tmp_path, *dropout, *overrides)[0])["last"]
        for overrides in ([], ["seed.data=1"], ["seed.init=1"], ["seed.noise=1"], ["seed.value=1"])
    ]
    assert len(set(found)) == 5


def test_a_schedule_spans_the_whole_training(tmp_path):
    overrides = ["scheduler=cosine", "optimizer.lr=0.1", "trainer.max_epochs=10", "scheduler.warmup=2"]
    built = run.build(request(tmp_path, *overrides))
    steps = -(-107 // 16)
    assert built.steps == 10 * steps == len(built.schedule.rates)
    ramp = [0.1 * (step + 1) / (2 * steps + 1) for step in range(2 * steps)]
    epochs = [0.05 * (1 + np.cos(np.pi * epoch / 8)) for epoch in range(8)]
    assert built.schedule.rates == pytest.approx([*ramp, *np.repeat(epochs, steps)])
    per_step = run.build(request(tmp_path, *overrides, "scheduler.per=step")).schedule.rates
    left = 8 * steps
    assert per_step[2 * steps :] == pytest.approx(
        [0.05 * (1 + np.cos(np.pi * step / left)) for step in range(left)]
    )


def test_nothing_is_written_while_a_run_is_built(tmp_path):
    run.build(request(tmp_path))
    assert not list(tmp_path.iterdir())


# --- the folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("trained")
    overrides = ["trainer.max_epochs=12", "optimizer.lr=0.05", "early_stop=patience", "early_stop.patience=2"]
    overrides += ["monitor=everything", "regularizer=l2", "init=xavier", "seed.value=3"]
    return home, overrides, *train(home, *overrides)


def test_runs_share_what_is_the_same_in_them_and_one_is_whole_without_the_others(tmp_path):
    (one, _), (other, _) = (train(tmp_path, "trainer.max_epochs=1", f"seed.value={n}") for n in (0, 1))
    for name in ("code.json", "prediction.json"):
        assert (one / name).stat().st_ino == (other / name).stat().st_ino
    known, code = record.read(one), (one / "code.json").read_bytes()
    assert known["code"] == hashlib.sha256(code).hexdigest()[:16] == record.read(other)["code"]
    targets = request(tmp_path).targets
    assert json.loads(code) == sources.code(targets)
    diff = origin.diff(targets)
    assert ((one / "code.diff").read_text() == diff) if diff else not (one / "code.diff").exists()
    outputs = [Predictor.read(folder).outputs(wine().x) for folder in (one, other)]
    alone = shutil.copytree(one, tmp_path / "alone")
    shutil.rmtree(one.parent)
    assert np.array_equal(Predictor.read(alone).outputs(wine().x), outputs[0])
    assert not np.array_equal(*outputs)
    changed = changes.differences(known, {"code": {}}, alone).code
    assert changed == tuple(f"{name} is gone" for name in json.loads(code))


def test_a_folder_holds_what_other_tools_rely_on(trained):
    home, overrides, folder, _ = trained
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    (event_file,) = {name for name in names if name.startswith("events.out.tfevents.")}
    wanted = {
        "config.yaml",
        "record.json",
        "code.json",
        "columns.tfevents",
        "metrics.jsonl",
        "prediction.json",
        ".lock",
        event_file,
    }
    names -= {"code.diff"}  # where the code differs from its commit
    found = record.read(folder)
    best, last = f"best-{found['best']['step'] + 1:08d}", f"ended-{found['stopped']['step'] + 1:08d}"
    wanted |= {f"checkpoints/{name}/weights.safetensors" for name in (best, last)}
    assert names == wanted
    links = {name: (folder / "checkpoints" / name).readlink() for name in ("best", "last")}
    assert links == {"best": Path(best), "last": Path(last)}
    assert folder.parent == home / "main"
    assert folder.name.startswith("max_epochs=12__lr=0.05__early_stop=patience__patience=2__")
    assert folder.name.endswith(f"seed=3-{request(home, *overrides).id}")


def test_the_config_is_there_resolved(trained):
    home, overrides, folder, _ = trained
    text = (folder / "config.yaml").read_text()
    assert "${" not in text
    assert yaml.safe_load(text) == request(home, *overrides).config
    assert yaml.safe_load(text)["seed"]["noise"] == 3


def test_a_record_says_what_the_run_was_and_became(trained):
    home, overrides, folder, result = trained
    found = record.read(folder)
    asked = request(home, *overrides)
    assert (found["id"], found["overrides"]) == (asked.id, overrides)
    assert found["status"] == result.run.status == "stopped early" and found["reason"]
    assert found["stopped"]["why"] == found["reason"] and "val/loss" in found["reason"]
    assert found["seconds"] > 0 and found["started"] <= found["ended"]
    assert found["environment"]["torch"] == version("torch") and found["environment"]["threads"] == 1
    assert found["init"]["linear0.weight"].startswith("xavier_normal_")
    assert found["data_sha256"] == run.build(asked).data.sha256
    weights = load_file(folder / "checkpoints/best/weights.safetensors")
    assert found["parameters"] == sum(weight.numel() for weight in weights.values())  # it has no buffers
    assert result.exit_code == 0


def test_best_and_stopped_follow_from_the_logged_metrics(trained):
    _, _, folder, _ = trained
    found, epochs = record.read(folder), [line for line in lines(folder) if "val/loss" in line]
    losses = [line["val/loss"] for line in epochs]
    best = losses.index(min(losses))
    assert found["best"]["metric"] == "val/loss" and sign("val/loss", "auto") == 1
    assert (found["best"]["value"], found["best"]["epoch"]) == (losses[best], epochs[best]["epoch"])
    assert found["best"]["step"] == epochs[best]["step"] == 7 * (best + 1) - 1
    assert (found["stopped"]["epoch"], found["stopped"]["step"]) == (best + 2, 7 * (best + 3) - 1)
    assert epochs[-1]["epoch"] == best + 2
    last = {tag: value for tag, value in epochs[-1].items() if tag not in ("step", "epoch")}
    assert found["last"] == last
    assert found["last"]["val/loss"] > found["best"]["metrics"]["val/loss"] == losses[best]


def test_checkpoints_are_the_weights_behind_the_recorded_numbers(trained):
    home, overrides, folder, _ = trained
    found = record.read(folder)
    built = run.build(request(home, *overrides))
    parts = {"val": built.data.validation, "test": built.data.test}
    wanted = {"best": {"val": found["best"]["value"], "test": found["best"]["metrics"]["test/loss"]}}
    wanted["last"] = {"val": found["last"]["val/loss"]}
    for name, losses in wanted.items():
        built.model.load_state_dict(load_file(folder / "checkpoints" / name / "weights.safetensors"))
        built.model.eval()
        for key, loss in losses.items():
            with torch.no_grad():
                outputs = built.model(parts[key].x)
            measured = torch.nn.functional.cross_entropy(outputs, parts[key].y)
            assert measured.item() == pytest.approx(loss, rel=1e-5)


def test_a_record_has_every_metric_of_the_best_weights(trained):
    home, overrides, folder, _ = trained
    found, built = record.read(folder), run.build(request(home, *overrides))
    parts = {"val": built.data.validation, "test": built.data.test}
    built.model.load_state_dict(load_file(folder / record.BEST_WEIGHTS))
    built.model.eval()
    assert list(found["best"]["measured"]) == ["val", "test"]
    for name, part in parts.items():
        final = found["best"]["measured"][name]
        with torch.no_grad():
            answer = built.model(part.x).argmax(1)
        assert final["confusion"] == confusion_matrix(part.y, answer, labels=range(3)).tolist()
        assert final["recall"] == pytest.approx(recall_score(part.y, answer, average=None).tolist())
        assert final["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(part.y, answer))
        assert 0 <= final["ece"] <= 1 and "top5" not in final
    best = found["best"]["metrics"]
    measured = {
        f"{part}/{name}": found["best"]["measured"][part][name]
        for part in parts
        for name in ("loss", "accuracy")
    }
    assert best == pytest.approx(
        measured, rel=1e-6
    )  # in other batches, so that sums are rounded in another way


def test_metrics_that_were_chosen_are_logged_and_can_stop_a_run(tmp_path):
    chosen = ["trainer.metrics=[balanced_accuracy,top2,ece]", "trainer.max_epochs=6", "early_stop=patience"]
    chosen += ["early_stop.metric=val/balanced_accuracy", "early_stop.patience=2", "optimizer.lr=0.05"]
    folder, result = train(tmp_path, *chosen)
    logged = [line for line in lines(folder) if "val/loss" in line]
    names = ("loss", "balanced_accuracy", "top2", "ece")
    tags = {f"{part}/{name}" for part in ("train", "val") for name in names}
    assert set(logged[0]) == {"step", "epoch", *tags}
    values = [line["val/balanced_accuracy"] for line in logged]
    best = record.read(folder)["best"]
    assert (best["metric"], best["value"]) == ("val/balanced_accuracy", max(values))
    assert best["epoch"] == values.index(max(values))
    assert result.run.status in ("stopped early", "finished")
    assert record.read(folder)["best"]["metrics"].keys() == {
        f"{part}/{name}" for part in ("val", "test") for name in names
    }


def test_class_weights_weigh_in_training_and_validation(tmp_path):
    counts = torch.bincount(run.build(request(tmp_path)).data.train.y).tolist()
    by_hand = [sum(counts) / (3 * count) for count in counts]
    asked = {"balanced": "balanced", "listed": by_hand, "ones": [1, 1, 1], "none": "none"}
    folders = {
        name: train(tmp_path / name, f"trainer.class_weights={said}", "trainer.max_epochs=2")[0]
        for name, said in asked.items()
    }
    known = {name: record.read(folder) for name, folder in folders.items()}
    found = {name: record.last_metrics(one) | record.best_metrics(one) for name, one in known.items()}
    assert found["balanced"] == found["listed"]
    for tag in ("train/loss", "val/loss", "test/loss"):
        assert found["ones"][tag] == pytest.approx(found["none"][tag], rel=1e-4)
        assert found["balanced"][tag] != pytest.approx(found["none"][tag], rel=1e-4)
    assert weights(folders["balanced"]) != weights(folders["none"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.metrics=[acuracy]"], "trainer.metrics=acuracy: unknown; did you mean 'accuracy'?"),
        (["trainer.metrics=accuracy"], "trainer.metrics=accuracy: must be"),
        (["trainer.class_weights=[1,2]"], "must have one weight for each of the 3 classes"),
        (["trainer.class_weights=[1,-1,1]"], "trainer.class_weights=[1, -1, 1]: must be"),
        (["trainer.class_weights=equal"], "trainer.class_weights=equal: must be"),
        (["data=diabetes", "trainer.class_weights=balanced"], "a regression has no classes"),
        (["early_stop.metric=val/ece"], "early_stop.metric=val/ece: is never logged"),
    ],
)
def test_metrics_and_weights_that_do_not_fit_are_refused(overrides, told, tmp_path):
    with pytest.raises(UsageError) as refused:
        run.build(request(tmp_path, *overrides))
    assert told in str(refused.value)


def test_metrics_lines_hold_what_the_event_file_holds(trained):
    _, _, folder, _ = trained
    scalars: dict[tuple[int, str], float] = {
        (step, tag): value for step, tag, kind, value in events(folder) if kind == "simple_value"
    }
    best = {tag: (step, scalars.pop((step, tag))) for step, tag in list(scalars) if tag.startswith("best/")}
    known = record.read(folder)["best"]
    for key, value in known["metrics"].items():
        assert best[f"best/{key}"] == (known["step"], pytest.approx(value, rel=1e-6))
    assert {"best/val/accuracy", "best/test/loss"} <= best.keys()
    told = {
        (line["step"], tag[0].upper() + tag[1:] if tag.startswith(("train/", "val/")) else tag): value
        for line in lines(folder)
        for tag, value in line.items()
        if tag not in ("step", "epoch")
    }
    assert told.keys() == scalars.keys()
    assert all(np.float32(told[key]) == np.float32(scalars[key]) for key in told)
    assert all(line["epoch"] == line["step"] // 7 for line in lines(folder))
    steps = sorted({line["step"] for line in lines(folder) if "lr/lr" in line})
    assert steps == list(range(record.read(folder)["stopped"]["step"] + 1))


def test_monitor_none_writes_no_event_file_but_the_metrics(tmp_path):
    folder, _ = train(tmp_path, "monitor=none", "trainer.max_epochs=2")
    assert not list(folder.glob("events*"))
    assert [line["epoch"] for line in lines(folder)] == [0, 1]
    assert lines(folder)[0].keys() == {
        "step",
        "epoch",
        *(f"{part}/{name}" for part in ("train", "val") for name in ("loss", "accuracy")),
    }


# --- the same twice


@pytest.mark.parametrize(
    "overrides",
    [
        ["regularizer=[l1,dropout]", "scheduler=plateau", "model.norm=batch"],
        ["data=diabetes", "optimizer=sgd", "optimizer.lr=0.01", "scheduler=cosine", "scheduler.warmup=1"],
    ],
)
def test_the_same_config_gives_the_same_bits(overrides, tmp_path):
    overrides = [*overrides, "monitor=everything", "trainer.max_epochs=2"]
    first, _ = train(tmp_path / "a", *overrides)
    torch.rand(5), np.random.rand(5)  # what else was drawn must not matter
    second, _ = train(tmp_path / "b", *overrides)
    assert first.name == second.name
    assert weights(first) == weights(second) and set(weights(first)) == {"best", "last"}
    # the output folder is told in the config that TensorBoard shows
    shown = [[event for event in events(folder) if event[1] != "run/config"] for folder in (first, second)]
    histograms = {tag for _, tag, kind, _ in shown[0] if kind == "histo"}
    assert {"weights/linear0.weight", "gradients/output.bias", "activations/relu0"} <= histograms
    assert [e for e in shown[0] if not e[1].startswith(("run/", "_hparams_"))] == [
        e for e in shown[1] if not e[1].startswith(("run/", "_hparams_"))
    ]
    assert lines(first) == lines(second)
    changing = {"started", "ended", "seconds", "environment", "attempts"}
    records = [record.read(folder) for folder in (first, second)]
    assert {k: v for k, v in records[0].items() if k not in changing} == {
        k: v for k, v in records[1].items() if k not in changing
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["monitor=none"],
        ["monitor=everything"],
        ["trainer.workers=2"],
        ["name=other"],
        ["seed=deterministic"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_cannot_change_a_result_does_not(overrides, tmp_path):
    usual = ["regularizer=dropout", "trainer.max_epochs=2"]
    folder, _ = train(tmp_path / "a", *usual)
    other, _ = train(tmp_path / "b", *usual, *overrides)
    assert weights(folder) == weights(other)
    same_id = overrides != ["seed=deterministic"]
    assert (record.read(folder)["id"] == record.read(other)["id"]) == same_id


def test_training_again_replaces_all_that_was_there(tmp_path):
    usual = ["trainer.max_epochs=2", "monitor=everything"]
    folder, _ = train(tmp_path, *usual)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "scrap").write_text("of an earlier attempt")
    again, _ = train(tmp_path, *usual, "fresh=true")
    assert again == folder and not (folder / "scrap").exists()
    assert len(list(folder.glob("events*"))) == 1
    assert (folder / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]


# --- how it ends


def test_an_error_in_the_middle_leaves_a_true_record_and_the_best_weights(tmp_path, monkeypatch):
    evaluate = FusedLearner.evaluate
    calls = []

    def fail_later(self, batches):
        calls.append(0)
        if len(calls) == 3:
            raise RuntimeError("no luck")
        return evaluate(self, batches)

    monkeypatch.setattr(FusedLearner, "evaluate", fail_later)
    asked = request(tmp_path, "trainer.max_epochs=5", "monitor=none")
    with pytest.raises(RuntimeError, match="no luck"):
        run.train(asked)
    found = record.read(asked.folder)
    assert (found["status"], found["reason"]) == ("failed", "RuntimeError: no luck")
    assert found["stopped"]["epoch"] == 1 and found["best"]["epoch"] in (0, 1)
    assert [line["epoch"] for line in lines(asked.folder)] == [0, 1]
    claim_module.claim_run(asked).release()  # the folder is free again


def test_a_folder_in_use_is_refused_before_anything_is_touched(tmp_path):
    asked = request(tmp_path, "trainer.max_steps=2")
    with claim_module.claim_run(asked) as claim:
        with pytest.raises(Busy):
            run.train(asked)
        assert [path.name for path in claim.folder.iterdir()] == [".lock"]


def test_data_in_the_record_are_those_that_were_trained_on(tmp_path):
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    y = y.astype(np.int64)
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    folder, _ = train(tmp_path, "trainer.max_steps=1")
    assert record.read(folder)["data_sha256"] == digest.hexdigest()


def test_faults_of_all_groups_are_told_at_once(tmp_path):
    overrides = ["optimizer.lr=-5", "seed.init=-1", "trainer.max_epochs=0", "init=normal", "init.std=abc"]
    with pytest.raises(UsageError) as refused:
        run.build(request(tmp_path, *overrides))
    keys = [fault.split("=")[0] for fault in refused.value.faults]
    assert sorted(keys) == ["init.std", "optimizer.lr", "seed.init", "trainer.max_epochs"]


def test_a_plateau_that_watches_the_wrong_way_is_refused(tmp_path):
    asked = request(tmp_path, "scheduler=plateau", "scheduler.metric=val/accuracy")
    with pytest.raises(UsageError, match=r"scheduler\.mode=min: .*scheduler\.mode=max"):
        run.build(asked)
    assert not list(tmp_path.iterdir())
