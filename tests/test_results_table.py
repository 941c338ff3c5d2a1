"""One table from run folders alone: what varies, what repeats it, and what cannot be trusted."""

import json

import pyarrow.csv
import pyarrow.parquet
import pytest
import sweeps

import sweepwise
from sweepwise.errors import UsageError
from sweepwise.provenance.hashes import Hashes
from sweepwise.results import run_folder, words
from sweepwise.results.loading import load


@pytest.fixture
def home(tmp_path):
    return tmp_path / "outputs" / "main"


def test_what_varies_is_found_from_the_resolved_configs(home):
    for init in ("xavier", "kaiming"):
        for seed in (0, 1):
            sweeps.run(home, f"init={init}", f"seed.value={seed}", value=0.1)
    table = load(home)
    assert (table.settings, table.replicates, table.metric) == (("init",), ("seed.value",), "val/loss")
    assert [(row.setting, row.replicate) for row in table.rows] == [
        (("kaiming",), (0,)), (("kaiming",), (1,)), (("xavier",), (0,)), (("xavier",), (1,)),
    ]  # fmt: skip


def test_a_key_of_one_option_is_compared_within_it(home):
    sweeps.run(home, "scheduler=constant", value=0.3)
    sweeps.run(home, "scheduler=step", "scheduler.gamma=0.5", value=0.2)
    sweeps.run(home, "scheduler=step", "scheduler.gamma=0.1", value=0.1)
    table = load(home)
    assert table.settings == ("scheduler", "scheduler.gamma")
    assert sorted(map(str, table.cells)) == ["('constant', None)", "('step', 0.1)", "('step', 0.5)"]


def test_options_that_act_together_are_one_setting(home):
    for chosen in ("none", "l1", "[l1,dropout]"):
        sweeps.run(home, f"regularizer={chosen}", value=0.1)
    assert sorted(load(home).cells) == [("l1",), ("l1+dropout",), ("none",)]


def test_keys_that_follow_from_another_are_no_settings(home):
    for epochs in (20, 40):
        sweeps.run(home, f"trainer.max_epochs={epochs}", value=0.1)
    assert load(home).settings == ("trainer.max_epochs",)


def test_keys_that_vary_together_are_told(home):
    for init, rate in (("xavier", 0.1), ("kaiming", 0.01)):
        sweeps.run(home, f"init={init}", f"optimizer.lr={rate}", value=0.1)
    table = load(home)
    assert table.settings == ("init",) and table.tied == {"init": ("optimizer.lr",)}
    assert table.remarks == (
        "optimizer.lr varies only together with init: their effects cannot be told apart",
    )


def test_by_and_replicates_overrule(home):
    for split in (0, 1):
        for rate in (0.1, 0.2):
            sweeps.run(home, f"data.split_seed={split}", f"optimizer.lr={rate}", value=0.1)
    assert load(home).replicates == ("data.split_seed",)
    assert load(home, replicates=[]).settings == ("data.split_seed", "optimizer.lr")
    assert load(home, replicates=["optimizer.lr"]).settings == ("data.split_seed",)
    by = load(home, by=["data.split_seed"])
    assert (by.settings, by.replicates) == (("data.split_seed",), ("optimizer.lr",))
    with pytest.raises(
        UsageError, match=r"^by=optimiser.lr: must be a key that varies .*did you mean 'optimizer.lr'"
    ):
        load(home, by=["optimiser.lr"])


def test_true_and_1_are_two_values(home):
    sweeps.run(home, "model.bias=true", value=0.1)
    sweeps.run(home, "model.bias=false", value=0.1)
    assert [row.setting for row in load(home).rows] == [(False,), (True,)]


def test_runs_of_before_records_named_options_are_named_alike(home):
    sweeps.run(home, "init=xavier", value=0.1)
    folder = sweeps.run(home, "init=kaiming", value=0.1)
    known = json.loads((folder / "record.json").read_text())
    del known["choices"]
    (folder / "record.json").write_text(json.dumps(known))
    assert load(home).settings == ("init",)


def test_half_written_and_damaged_files_are_named_and_left_out(home):
    sweeps.run(home, "seed.value=0", value=0.1)
    for seed, (name, text) in enumerate(
        [
            ("record.json", '{"status": "fin'),
            ("record.json", "[]"),
            ("config.yaml", "a: [1"),
            ("config.yaml", ""),
        ],
        1,
    ):
        (sweeps.run(home, f"seed.value={seed}", value=0.1) / name).write_text(text)
    table = load(home)
    assert len(table.rows) == 1 and len(table.damaged) == 4
    assert all(str(home) in fault for fault in table.damaged)


def test_a_config_has_no_aliases(home):
    folder = sweeps.run(home, "seed.value=0", value=0.1)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text + "mine: &here [1]\nyours: *here\n")
    with pytest.raises(UsageError, match="it has aliases"):
        load(home)


def test_any_field_of_a_record_may_be_anything(home):
    sweeps.run(home, "seed.value=0", value=0.2)
    path = sweeps.run(home, "seed.value=1", value=0.1) / "record.json"
    whole = json.loads(path.read_text())
    for key in whole:
        for content in (None, 7, "x", [], {}):
            path.write_text(json.dumps(whole | {key: content}))
            table = load(home)
            assert len(table.rows) + len(table.damaged) == 2
            words.full(sweepwise.answer(table))


def test_a_run_that_trains_counts_when_it_has_ended(home):
    sweeps.run(home, "seed.value=0", value=0.1)
    sweeps.run(home, "seed.value=1", value=0.1, status="running")  # which nobody holds
    assert [row.status for row in load(home).rows] == ["finished", "interrupted"]
    assert [row.ended for row in load(home).rows] == [True, False]


def test_the_last_line_of_curves_may_be_half_written(home):
    folder = sweeps.run(home, value=0.1)
    lines = ['{"step": 9, "epoch": 0, "train/loss": 0.5}', '{"step": 9, "train/batch_loss": 1}', '{"step": 1']
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    assert run_folder.epochs(folder) == [{"step": 9, "epoch": 0, "train/loss": 0.5}]
    assert load(home).curves() == [
        {"folder": str(folder), "epoch": 0, "step": 9, "tag": "train/loss", "value": 0.5}
    ]


def test_several_experiments_and_a_folder_above_them_are_one_table(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        sweeps.run(tmp_path / name, f"seed.value={seed}", value=0.1)
    assert len(load(tmp_path / "a", tmp_path / "b").rows) == len(load(tmp_path).rows) == 2


def test_a_run_that_is_there_twice_counts_once(tmp_path):
    sweeps.run(tmp_path / "a", "seed.value=0", value=0.1)
    sweeps.run(tmp_path / "copied", "seed.value=0", value=0.2, ended="2026-02-01T00:00:00+0000")
    table = load(tmp_path)
    assert [row.value for row in table.rows] == [0.2]
    assert table.remarks == ("1 runs are there more than once; the one that ended last counts",)


def test_other_code_and_other_data_are_told(home):
    sweeps.run(home, "seed.value=0", value=0.1)
    sweeps.run(home, "seed.value=1", value=0.1, code={"sweepwise/run/single.py": "2"}, data_sha256="e")
    assert load(home).remarks == (
        "not all runs were trained by the same code: sweepwise/run/single.py changed between them",
        "the content of the data files changed between the runs",
    )


def test_options_that_use_other_files_are_no_other_code(home):
    sweeps.run(home, "init=xavier", value=0.1, code={"a.py": "1", "b.py": "1"})
    sweeps.run(home, "init=lsuv", value=0.1, code={"a.py": "1", "lsuv.py": "7"})
    assert load(home).remarks == ()


@pytest.mark.parametrize("versions", [("now", "now"), ("before", "now")])
def test_code_is_compared_by_the_tables_beside_the_records_also_with_runs_of_before(versions, home):
    def made(seed, version, files):
        code = Hashes(files)
        now = version == "now"
        folder = sweeps.run(home, f"seed.value={seed}", value=0.1, code=code.digest if now else dict(code))
        if now:
            (folder / "code.json").write_bytes(code.content)
        return folder

    same = [made(seed, version, {"a.py": "1", "b.py": "1"}) for seed, version in enumerate(versions)]
    assert load(home).remarks == ()
    made(2, "now", {"a.py": "2", "b.py": "1"})
    assert load(home).remarks == ("not all runs were trained by the same code: a.py changed between them",)
    (same[1] / "code.json").unlink()  # another run of the same code may have it
    made(3, "now", {"a.py": "1", "b.py": "1"})
    assert load(home).remarks == ("not all runs were trained by the same code: a.py changed between them",)


def test_a_sweep_that_only_adds_seeds_is_compared_with_those_it_was_chosen_from(home):
    for init in ("xavier", "kaiming", "lecun"):
        for seed in (0, 1):
            sweeps.run(home, f"init={init}", f"seed.value={seed}", value=0.1)
    sweeps.run(home, "optimizer.lr=0.1", value=0.1)  # of another sweep
    added = [sweeps.composed(f"init={init}", "seed.value=2").config for init in ("xavier", "kaiming")]
    assert len(load(home, like=added).cells) == 3
    anew = [sweeps.composed(f"init={init}", "seed.value=0").config for init in ("xavier", "orthogonal")]
    assert len(load(home, like=anew).cells) == 1


@pytest.mark.parametrize("edit", [("lr: 0.001", "lr: 0.01"), ("value: 0", "value: 9")])
@pytest.mark.parametrize("asked", [True, False])
def test_a_run_whose_config_was_edited_is_left_out_and_told(home, edit, asked):
    inits = ("xavier", "kaiming", "lecun")
    folders = [sweeps.run(home, f"init={init}", "seed.value=0", value=0.1) for init in inits]
    like = [sweeps.composed(f"init={init}", "seed.value=0").config for init in inits] if asked else None
    assert load(home, like=like).damaged == ()
    for number, folder in enumerate(folders, 1):
        config = folder / "config.yaml"
        config.write_text(f"# a comment\n{config.read_text()}")
        assert len(load(home, like=like).damaged) == number - 1
        config.write_text(config.read_text().replace(*edit, 1))
        if number < 3:
            table = load(home, like=like)
            assert len(table.rows) == 3 - number and len(table.damaged) == number
            assert f"{config} was changed after the training; restore it, or" in " ".join(table.damaged)
    with pytest.raises(UsageError, match=r"3 could not be read: .* was changed after the training"):
        load(home, like=like)


def test_a_run_that_did_not_measure_the_metric_has_not_failed(home):
    sweeps.run(home, "seed.value=0", value=0.1)
    best = {"metric": None, "value": None, "epoch": 3, "step": 60, "metrics": {}}
    sweeps.run(home, "data.validation=0", value=0.1, best=best, last={"train/loss": 0.2})
    table = load(home)
    assert [row.failed for row in table.rows] == [False, False]
    assert "1 of 2 runs did not measure val/loss, and do not count" in table.remarks


def test_other_splits_are_told(home):
    for rate, split in ((0.1, 0), (0.1, 1), (0.2, 1), (0.2, 2)):
        sweeps.run(home, f"optimizer.lr={rate}", f"data.split_seed={split}", value=0.1)
    assert load(home).remarks == (
        "not all settings were run with the same data.split_seed: some splits are harder than others",
    )


def test_where_and_like_select(home):
    for data in ("digits", "wine"):
        sweeps.run(home, f"data={data}", value=0.1)
    assert len(load(home, where={"data": "wine"}).rows) == 1
    with pytest.raises(UsageError, match=r"^data=iris: no run has it; there is digits, wine"):
        load(home, where={"data": "iris"})
    like = [sweeps.composed("data=wine", "seed.value=7").config]
    assert [row.run.settings["data"] for row in load(home, like=like).rows] == ["wine"]


def test_values_of_several_data_sets_are_not_compared(home):
    for data in ("digits", "wine"):
        sweeps.run(home, f"data={data}", value=0.1)
    with pytest.raises(UsageError, match=r"^data: must be the same in all runs, but is digits, wine"):
        sweepwise.answer(load(home))


def test_a_metric_that_chose_no_weights_is_that_of_the_weights_kept(home):
    sweeps.run(home, value=0.25)
    assert load(home, metric="val/accuracy").rows[0].value == 0.75
    assert load(home, metric="val/accuracy").sign == -1
    assert load(home, metric="train/loss").rows[0].value == 0.1
    with pytest.raises(
        UsageError, match=r"^metric=val/r2: must have been measured; there is train/loss, val/acc"
    ):
        load(home, metric="val/r2")
    with pytest.raises(UsageError, match=r"^metric=test/loss: must be of the validation or training part"):
        load(home, metric="test/loss")


def test_no_column_shows_the_test_part(home):
    sweeps.run(home, value=0.25)
    assert not any("test" in column for column in load(home).records()[0])


def test_export_is_exact(home, tmp_path):
    values = [0.1 + 0.2, 1 / 3, 5e-324]
    for seed, value in enumerate(values):
        sweeps.run(home, f"seed.value={seed}", f"model.hidden=[{seed + 1},4]", value=value)
    table = load(home)
    table.write(tmp_path / "t.csv")
    table.write(tmp_path / "t.parquet")
    for read in (
        pyarrow.csv.read_csv(tmp_path / "t.csv"),
        pyarrow.parquet.read_table(tmp_path / "t.parquet"),
    ):
        assert read.column("val/loss").to_pylist() == values
        assert read.column("model.hidden").to_pylist() == ["[1,4]", "[2,4]", "[3,4]"]
    assert table.to_pandas()["val/loss"].tolist() == values
    with pytest.raises(UsageError, match=r"t.xlsx: must end in .csv or .parquet"):
        table.write(tmp_path / "t.xlsx")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["."]])
def test_a_folder_without_runs_is_refused(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="must"):
        load(*arguments)
