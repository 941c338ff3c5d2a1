"""The commands around an answer: answer.py, confirm.py, compare.py, and the end of a sweep."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sweeps
from small import PLAIN, ROOT, TINY, TRAIN

from sweepwise.results.confirmation import DEFAULT
from sweepwise.results.words import MOST_LINES
from sweepwise.store import record

SCRIPTS = ROOT / "scripts"
SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=2"]


@pytest.fixture
def script(as_command, empty_folder, whole_errors):
    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        return as_command(str(SCRIPTS / f"{name}.py"), *arguments)

    return call


def test_a_sweep_ends_with_its_answer(as_command, empty_folder, whole_errors):
    sweep = [*SHORT, "init=xavier,zeros", "hydra.launcher.fuse=false"]
    code, out, _ = as_command(TRAIN, "-m", *sweep, "seed.value=0,1")
    assert code == 0
    assert "answer        2 settings of init x 2 seeds" in out
    last = out[out.index("\nanswer") :].strip().splitlines()
    assert len(last) <= MOST_LINES and last[-1].startswith("next          python ")
    code, out, _ = as_command(TRAIN, "-m", *sweep, "seed.value=2")
    assert "answer        2 settings of init x 3 seeds" in out  # with the seeds of before
    code, out, _ = as_command(TRAIN, "-m", *sweep, "seed.value=2", "progress=false")
    assert "answer" not in out


def test_a_sweep_ends_with_its_mean_runs(as_command, script, empty_folder, whole_errors):
    sweep = [*SHORT, "monitor=scalars", "init=xavier,zeros", "hydra.launcher.fuse=false"]

    def written():
        return sorted(path.parent.name for path in Path("outputs/main/_mean").rglob("*.mean"))

    assert as_command(TRAIN, "-m", *sweep, "seed.value=0,1", "mean_runs=false")[0] == 0
    assert written() == []
    assert script("status", "outputs/main")[0] == 0
    assert written() == []  # its runs were asked to write none
    assert as_command(TRAIN, "-m", *sweep, "seed.value=0,2", "progress=false")[0] == 0
    assert written() == ["init=xavier", "init=zeros"]
    shutil.rmtree("outputs/main/_mean")
    assert script("status", "outputs/main")[0] == 0
    assert written() == ["init=xavier", "init=zeros"]


def test_the_script_answers_one_question_and_writes_tables(script, tmp_path):
    home = tmp_path / "outputs" / "main"
    values = np.random.default_rng(0).normal(0.5, 0.01, (4, 4))
    sweeps.grid(
        home,
        {
            (f"init={init}", f"optimizer.lr={rate}"): (row + (init == "zeros")).tolist()
            for row, (init, rate) in zip(
                values, [(i, r) for i in ("xavier", "zeros") for r in (0.1, 0.2)], strict=True
            )
        },
    )
    code, out, complaint = script(
        "answer", str(home), "compare=init", "margin=0.1", "table=t.csv", "curves=c.parquet", "markdown=a.md"
    )
    assert (code, complaint) == (0, "")
    text = " ".join(out.split())
    assert re.search(r"xavier (\(.*\) )?better than zeros by (0\.9|1\.0)", text), text
    assert "optimizer.lr  " not in out
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 17
    assert (tmp_path / "a.md").read_text().startswith("# ") and (tmp_path / "c.parquet").stat().st_size
    code, out, _ = script("answer", str(home), "optimizer.lr=0.2", "by=init", "metric=val/accuracy")
    assert code == 0 and "2 settings of init x 4 seeds; val/accuracy" in out
    code, out, _ = script("answer", str(home), "compare=init", "baseline=xavier", "rest=averaged")
    assert code == 0 and "averaged over optimizer.lr" in out


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "FOLDER: must be given"),
        (["void"], "void: must hold the folder of a run, but holds none"),
        (["nowhere"], "nowhere: must be an experiment's folder"),
        (["main", "compare=lr"], "compare=lr: must be a setting that varies"),
        (["main", "margin=much"], "margin=much: must be a number"),
        (["main", "margin=-1"], "margin=-1"),
        (["main", "rest=some"], "rest=some: must be one of best, equal, averaged"),
        (["main", "table=t.xlsx"], "t.xlsx: must end in .csv or .parquet"),
        (["main", "table=nowhere/t.csv"], "nowhere/t.csv: must lie in a folder that exists"),
        (["main", "markdown=nowhere/a.md"], "nowhere/a.md: must lie in a folder that exists"),
        (["main", "init=zeros"], "init=zeros: no run has it"),
        (["main", "metric=test/loss"], "metric=test/loss: must be of the validation or training part"),
        (["main", "--all"], "--all: must be an experiment's folder"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(script, tmp_path, arguments, rule):
    sweeps.grid(tmp_path / "main", {("init=xavier",): [0.1, 0.2], ("init=kaiming",): [0.3, 0.1]})
    (tmp_path / "void").mkdir()
    code, _, complaint = script("answer", *arguments)
    assert code == 2 and complaint.startswith("error: ") and rule in complaint
    assert complaint.count("\n") == 1 and not list(tmp_path.glob("*.*"))


def test_confirm_chooses_on_new_seeds_and_shows_the_test_part_of_the_choice_alone(script, tmp_path):
    home = tmp_path / "outputs" / "main"
    settings = {"xavier": [0.1, 0.2, 0.15], "kaiming": [0.2, 0.1, 0.14], "zeros": [9.0, 9.1, 9.2]}
    sweeps.grid(home, {(f"init={init}", *SHORT): values for init, values in settings.items()})
    code, out, _ = script("confirm", str(home), "print=true", "seeds=2", "finalists=2")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3 and all(line.endswith("seed.value=3,4") for line in lines)
    assert not any("zeros" in line for line in lines)  # it is surely worse than the best
    code, out, _ = script("confirm", str(home))
    assert code == 0
    runs = list((tmp_path / "outputs" / "main-confirmed").glob("*/record.json"))
    assert len(runs) == 6  # two finalists and the default, two seeds each
    told = out[out.index("\nconfirmed") + 1 :]
    assert told.count("test/loss") == 1 and "answer" not in out
    values = {}
    for path in runs:
        known = record.read(path.parent)
        values.setdefault(known["choices"]["init"], []).append(known["best"]["value"])
    best = min(values, key=lambda init: sum(values[init]))
    name = DEFAULT if best == "default" else f"init={best}"
    assert told.startswith(f"confirmed     {name}: chosen by val/loss on 2 seeds")
    code, _, complaint = script("confirm", str(home), "seeds=9")
    assert code == 2 and "seeds=9: must be 2, as was planned in" in complaint
    again = script("confirm", str(home))[1]
    assert again[again.index("confirmed     ") :] == told  # no other seeds, nothing trained
    assert len(list((tmp_path / "outputs" / "main-confirmed").glob("*/record.json"))) == 6


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "SWEEP: must be the only argument"),
        (["main", "seeds=1"], "seeds=1: must be a whole number, 2 or more"),
        (["main", "init=xavier"], "init=xavier: must be seeds=, finalists= or print="),
        (["single"], "single: each setting has one run; add seeds"),
    ],
)
def test_confirm_refuses_what_it_cannot_do(script, tmp_path, arguments, rule):
    sweeps.grid(tmp_path / "main", {("init=xavier",): [0.1, 0.2], ("init=kaiming",): [0.3, 0.1]})
    sweeps.grid(tmp_path / "single", {("init=xavier",): [0.1], ("init=kaiming",): [0.3]})
    code, _, complaint = script("confirm", *arguments)
    assert code == 2 and rule in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "main" / ".sweep" / "confirmation.json").exists()


def test_two_runs_are_told_apart(as_command, script, tmp_path):
    for overrides in (["init=xavier"], ["init=kaiming", "seed.value=1"]):
        as_command(TRAIN, *TINY, *PLAIN, "trainer.max_epochs=2", *overrides)
    one, other = sorted(path.parent for path in (tmp_path / "outputs").glob("main/*/record.json"))
    code, out, _ = script("compare", str(one), str(other))
    text = " ".join(out.split())
    assert code == 0 and "init kaiming -> xavier" in text and "seed.value 1 -> 0" in text
    assert "code no difference data no difference versions no difference" in text
    assert "val/loss apart from epoch 0 on" in text and "test/" not in text
    copied = tmp_path / "copied"
    shutil.copytree(one, copied)
    text = " ".join(script("compare", str(one), str(copied))[1].split())
    assert "config no difference seeds no difference" in text
    assert "val/loss equal to the bit in all 2 epochs that both have trained" in text
    known = json.loads((copied / "record.json").read_text())
    known["data_sha256"], known["environment"]["torch"] = "other", "1.0"
    (copied / "record.json").write_text(json.dumps(known))
    text = " ".join(script("compare", str(one), str(copied))[1].split())
    assert "the examples that were trained on are others" in text and "-> 1.0" in text
    for arguments in ([], [str(one)], [str(one), "nowhere"]):
        code, _, complaint = script("compare", *arguments)
        assert code == 2 and complaint.count("\n") == 1
