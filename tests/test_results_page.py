"""What the page of a sweep holds, against pandas and scipy; what cannot be known; names that are HTML."""

import json
import pickle
import re
import shlex

import numpy as np
import pandas
import pytest
import sweeps
from scipy import stats
from small import ROOT, composed

import sweepwise
from sweepwise.results import loading
from sweepwise.results.answer import answer
from sweepwise.results.critique import scale
from sweepwise.results.languages import Both, by_language
from sweepwise.results.markup import escaped
from sweepwise.results.page import files, render
from sweepwise.results.page.content import content
from sweepwise.results.page.markdown import markdown
from sweepwise.store.request import identity
from sweepwise.sweep import summary

INITS, RATES, SEEDS = ("xavier", "zeros"), (0.01, 0.1, 3.0), (0, 1, 2)
HOSTILE = "<script>alert(1)</script>|`*\n<b>&amp;"


def layers(seed: int) -> dict:
    made = [{"name": f"linear{n}", "std": 1.0 / (1 + n) + seed, "gradient": 0.1 * n} for n in range(3)]
    return {"start": {"layers": made}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two inits at three rates: xavier diverges at the largest one, one run is damaged, one still trains."""
    home = tmp_path_factory.mktemp("outputs") / "main"
    draw = np.random.default_rng(0)
    for init in INITS:
        for rate in RATES:
            for seed in SEEDS:
                status = "diverged" if (init, rate) == ("xavier", 3.0) else "finished"
                if (init, rate, seed) == ("xavier", 0.1, 2):
                    status = "stopped early"
                if (init, rate, seed) == ("zeros", 3.0, 2):
                    status = "interrupted"
                curve = (1 + (init == "zeros") + draw.normal(0, 0.1, 6)).tolist()
                curve = curve[:4] if status == "stopped early" else curve
                folder = sweeps.run(
                    home,
                    f"init={init}",
                    f"optimizer.lr={rate}",
                    f"seed.value={seed}",
                    value=None if status == "diverged" else min(curve),
                    status=status,
                    reason=f"loss nan at step {seed}" if status == "diverged" else "",
                    stopped={"epoch": len(curve) - 1, "step": 10, "why": ""},
                    **layers(seed),
                )
                lines = [{"step": step, "epoch": step, "lr/lr": rate / (1 + step)} for step in range(3)]
                lines += [
                    {"step": e, "epoch": e, "train/loss": v / 2, "val/loss": v} for e, v in enumerate(curve)
                ]
                (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    damaged = sweeps.run(home, "init=lecun", value=1.0)
    (damaged / "record.json").write_text("{")
    return home


@pytest.fixture(scope="module")
def said(home):
    return answer(loading.load(home))


@pytest.fixture(scope="module")
def found(said):
    return files.composed(said)


@pytest.fixture(scope="module")
def frame(said):
    return said.table.to_pandas()


def setting(found: dict, **values) -> int:
    """The place in the ranking of a setting."""
    wanted = [values[key.rpartition(".")[2]] for key in found["keys"]]
    return next(place for place, one in enumerate(found["ranking"]) if one["setting"] == wanted)


def texts(found: dict, column: str) -> list[str]:
    """A column of texts that are kept by their parts."""
    kept = found["runs"][column]
    return [kept["separator"].join(kept["words"][at] for at in row) for row in kept["rows"]]


def test_it_is_strict_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_ranking_is_that_of_pandas_with_the_intervals_of_scipy(found, frame):
    ended = frame[frame.status.isin(["finished", "stopped early"])]
    groups = ended.groupby(["init", "optimizer.lr"])["val/loss"]
    for (init, rate), values in groups:
        one = found["ranking"][setting(found, init=init, lr=f"{rate:g}")]
        assert one["mean"] == pytest.approx(values.mean(), rel=1e-5) and one["n"] == len(values)
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), values.sem())
        assert (one["low"], one["high"]) == pytest.approx((max(low, 0), high), rel=1e-4)
        assert {frame.loc[run, "init"] for run in one["runs"]} == {init}
    means = [one["mean"] for one in found["ranking"] if not one["failed"]]
    assert means == sorted(means)
    last = found["ranking"][-1]
    assert (last["setting"], last["mean"], last["failed"], last["n"]) == (["xavier", "3"], None, 3, 3)


def test_a_band_is_the_t_interval_of_the_runs_that_still_train(found, said):
    curves = said.table.to_pandas(curves=True)
    curves = curves[curves.tag == "val/loss"]
    by_tag = {one["tag"]: one["series"] for one in found["curves"]}
    assert list(by_tag) == ["val/loss", "train/loss"]
    place = setting(found, init="xavier", lr="0.1")
    (band,) = [one for one in by_tag["val/loss"] if one["ranking"] == place]
    folders = [str(said.table.rows[run].folder) for run in found["ranking"][place]["runs"]]
    wide = curves[curves.folder.isin(folders)].pivot(index="epoch", columns="folder", values="value")
    assert band["epochs"] == wide.index.tolist() and band["n"] == wide.count(axis=1).tolist() == [
        3,
        3,
        3,
        3,
        2,
        2,
    ]
    low, high = stats.t.interval(0.95, wide.count(axis=1) - 1, wide.mean(axis=1), wide.sem(axis=1))
    assert band["mean"] == pytest.approx(wide.mean(axis=1).tolist(), rel=1e-4)
    assert band["low"] == pytest.approx(low.tolist(), rel=1e-3)
    assert band["high"] == pytest.approx(high.tolist(), rel=1e-3)
    diverged = setting(found, init="xavier", lr="3")
    assert diverged not in {one["ranking"] for one in by_tag["val/loss"]}
    assert "3 runs that failed or diverged" in found["curves_left_out"]["en"]


def test_verdicts_say_how_much_better_the_first_is(said, found):
    for question in found["verdicts"]:
        for item, one in zip(question["items"], said.comparisons[question["key"]], strict=True):
            assert (item["first"], item["second"]) == (one.better.name, one.other.name)
            assert item["mean"] == pytest.approx(-one.difference.mean, rel=1e-5)
            assert item["low"] <= item["mean"] <= item["high"] and item["mean"] >= 0
    accuracy = content(
        answer(sweeps.table({("a",): [0.5, 0.52], ("b",): [0.9, 0.91]}, ("k",), "val/accuracy"))
    )
    (item,) = accuracy["verdicts"][0]["items"]
    assert (item["first"], item["mean"]) == ("b", pytest.approx(0.395))
    assert accuracy["metric"] == {"tag": "val/accuracy", "better": "higher", "percent": True}


def test_a_heat_map_shows_the_best_of_each_cell_and_what_failed(found):
    (drawn,) = found["heatmaps"]
    assert (drawn["x_key"], drawn["y_key"]) == ("init", "optimizer.lr")
    assert drawn["y"] == ["0.01", "0.1", "3"]
    for x, y, mean, n, failed in drawn["cells"]:
        one = found["ranking"][setting(found, init=drawn["x"][x], lr=drawn["y"][y])]
        assert (mean, n, failed) == (one["mean"], one["n"], one["failed"])
    told = found["failures"]
    assert (told["diverged"], told["failed"]) == (3, 0)
    assert {"key": "optimizer.lr", "value": "3", "ended_badly": 3, "n": 5} in told["by"]
    assert [(one["reason"], one["n"]) for one in told["messages"]] == [("loss nan at step 0", 3)]


@pytest.mark.parametrize(
    ("fails", "beyond"),
    [
        (lambda init, rate: rate >= 1, {(x, y) for x in range(3) for y in (3, 4)}),
        (lambda init, rate: rate <= 0.01, {(x, y) for x in range(3) for y in (0, 1)}),
        (lambda init, rate: rate >= 1 and init == "b", {(1, 3), (1, 4)}),
        (lambda init, rate: init == "b", {(1, y) for y in range(5)}),
    ],
    ids=["large", "small", "large-of-one", "word"],
)
def test_the_page_draws_the_boundary_of_the_critique(fails, beyond):
    draw = np.random.default_rng(3)
    settings = [(init, rate) for init in "abc" for rate in (0.001, 0.01, 0.1, 1.0, 10.0)]
    values = {one: [None] * 3 if fails(*one) else draw.normal(1, 0.1, 3).tolist() for one in settings}
    found = files.composed(answer(sweeps.table(values, ("init", "optimizer.lr"))))
    (finding,) = [one for one in found["critique"] if one["kind"] == "divergence"]
    drawn = found["failures"]["boundary"]
    assert (drawn["place"], drawn["text"], drawn["evidence"]) == (0, finding["text"], finding["evidence"])
    assert {tuple(cell) for cell in found["heatmaps"][0]["boundary"]} == beyond
    failed = {(x, y) for x, y, _, n, bad in found["heatmaps"][0]["cells"] if bad == n}
    assert beyond == failed
    assert (
        markdown(found).count(escaped(finding["text"]["en"])) == 2
    )  # in the critique, and beside what failed


def test_without_that_finding_the_page_draws_no_boundary():
    draw = np.random.default_rng(4)
    settings = [(init, rate) for init in "abc" for rate in (0.001, 0.01, 0.1, 1.0, 10.0)]
    values = {one: draw.normal(1, 0.1, 3).tolist() for one in settings}
    values["a", 10.0] = [None, 1.0, 1.1]
    found = files.composed(answer(sweeps.table(values, ("init", "optimizer.lr"))))
    assert "divergence" not in {one["kind"] for one in found["critique"]}
    assert found["failures"]["boundary"] is found["heatmaps"][0]["boundary"] is None


def test_of_one_key_the_boundary_is_words_alone():
    values = {(rate,): [None] * 3 if rate >= 1 else [1.0, 1.1, 0.9] for rate in (0.001, 0.01, 0.1, 1.0, 10.0)}
    found = files.composed(answer(sweeps.table(values, ("optimizer.lr",))))
    assert found["heatmaps"] == [] and found["failures"]["boundary"]["place"] is None
    assert "optimizer.lr >= 1" in found["failures"]["boundary"]["text"]["en"]
    assert "optimizer.lr &gt;= 1" in render.html(found)


@pytest.mark.parametrize(
    "values", [(0.001, 0.01, 0.1), (0.01, 0.03, 0.1), (0.1, 0.2, 0.3), (1, 2, 100), (0, 0.01, 0.1), (-1, 1)]
)
def test_an_axis_is_logarithmic_where_the_critique_takes_ratios(values):
    found = content(answer(sweeps.table({(value,): [1.0, 1.1] for value in values}, ("k",))))
    assert found["parallel"]["axes"][0]["log"] == (min(values) > 0 and scale.is_log(values))


def test_over_other_keys_a_cell_takes_the_best_setting():
    draw = np.random.default_rng(1)
    settings = [(a, b, c) for a in "ab" for b in "xy" for c in (1, 2)]
    values = {one: draw.normal(1, 0.2, 2).tolist() for one in settings}
    found = content(answer(sweeps.table(values, ("a", "b", "c"))))
    frame = pandas.DataFrame(
        [(*one, np.mean(found)) for one, found in values.items()], columns=[*"abc", "mean"]
    )
    assert {(one["x_key"], one["y_key"]) for one in found["heatmaps"]} == {("a", "b"), ("a", "c"), ("b", "c")}
    for drawn in found["heatmaps"]:
        x, y = (frame[drawn[key]].map(str) for key in ("x_key", "y_key"))
        for at_x, at_y, mean, n, _ in drawn["cells"]:
            here = frame[(x == drawn["x"][at_x]) & (y == drawn["y"][at_y])]
            assert mean == pytest.approx(here["mean"].min(), rel=1e-5) and n == 2 * len(here)


def test_rates_depth_and_stopping_come_from_the_folders(found):
    rates = {one["lr"][0]: one for one in found["rates"]}
    assert rates[0.1]["lr"] == pytest.approx([0.1, 0.05, 0.1 / 3], rel=1e-4)
    both = {setting(found, init=init, lr="0.1") for init in INITS}
    assert set(rates[0.1]["rankings"]) == both and rates[0.1]["steps"] == [0, 1, 2]
    for one in found["depth"]:
        assert one["layers"] == ["linear0", "linear1", "linear2"]
        assert one["std"] == pytest.approx([2, 1.5, 1 + 1 / 3], rel=1e-4)
        assert one["gradient"] == pytest.approx([0, 0.1, 0.2])
    assert {one["name"]: one["n"] for one in found["depth"]} == {"xavier": 9, "zeros": 9}
    stopped = {one["ranking"]: one for one in found["stopping"]}
    one = stopped[setting(found, init="xavier", lr="0.1")]
    assert (one["stopped"], one["early"]) == ([6, 6, 4], [False, False, True])


def test_each_row_has_the_command_that_repeats_it(found, said):
    for row, line, folder in zip(
        said.table.rows, texts(found, "command"), texts(found, "folder"), strict=True
    ):
        words = shlex.split(line)
        assert words[:2] == ["python", "train.py"]
        assert identity(composed(*words[2:]).config) == row.run.id
        assert folder == row.folder.name


def test_what_is_damaged_or_still_trains_is_said(found):
    remarks = [remark["en"] for remark in found["remarks"]]
    assert any(remark.startswith("damaged: ") and "lecun" in remark for remark in remarks)
    assert "left out: 1 interrupted" in remarks and not found["complete"]
    assert found["counts"] == {"diverged": 3, "finished": 13, "stopped early": 1, "interrupted": 1}
    assert found["cost"]["seconds"] == pytest.approx(1.5 * 18) and found["cost"]["epochs"] == 18 * 6 - 2


def test_an_end_of_an_interval_is_one_that_the_metric_can_have(tmp_path):
    for seed, (loss, accuracy) in enumerate([(0.01, 0.99), (0.02, 1.0), (0.2, 0.8)]):
        folder = sweeps.run(tmp_path / "main", f"seed.value={seed}", value=loss)
        line = {"step": 0, "epoch": 0, "train/loss": loss, "val/loss": loss, "val/accuracy": accuracy}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    found = content(answer(loading.load(tmp_path / "main")))
    drawn = {one["tag"]: one["series"][0] for one in found["curves"]}
    assert drawn["val/loss"]["low"] == [0] and drawn["val/accuracy"]["high"] == [1]
    mean, error = np.mean([0.01, 0.02, 0.2]), stats.sem([0.01, 0.02, 0.2])
    assert drawn["val/loss"]["high"] == pytest.approx([stats.t.interval(0.95, 2, mean, error)[1]], rel=1e-4)


def sentences(node) -> list[dict]:
    """All texts in two languages."""
    if isinstance(node, dict):
        if set(node) == {"en", "zh"}:
            return [node]
        return [one for part in node.values() for one in sentences(part)]
    return [one for part in node for one in sentences(part)] if isinstance(node, list) else []


def test_every_sentence_is_there_in_chinese(found):
    told = [one for one in sentences(found) if one["en"]]
    assert len(told) > 15
    for one in told:
        assert any("一" <= sign <= "鿿" for sign in one["zh"]), one
        assert not any("一" <= sign <= "鿿" for sign in one["en"]), one
    assert by_language(pickle.loads(pickle.dumps(Both("a", "b")))) == {"en": "a", "zh": "b"}


def test_what_is_damaged_inside_a_folder_is_left_out(tmp_path):
    layers = [{"name": 1, "std": "wide", "gradient": None}, {"std": True}]
    for seed in range(3):
        folder = sweeps.run(tmp_path / "main", f"seed.value={seed}", value=1.0, start={"layers": layers})
        lines = [
            {"step": "x", "epoch": 0, "lr/lr": 0.1},
            {"epoch": "a", "train/loss": 1.0},
            {"epoch": 1, "train/loss": "much", "val/loss": 1e308 * (1 + seed % 2)},
            {"epoch": True, "val/loss": 1.0},
            {"epoch": 2, "val/loss": float("nan"), "train/loss": float("inf")},
            {"epoch": 3, "val/loss": None},
        ]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"epoch": 4, "val/loss"')
    found = files.composed(answer(loading.load(tmp_path / "main")))
    json.dumps(found, allow_nan=False)
    assert found["rates"] == [] and [one["layers"] for one in found["depth"]] == [["1", ""]]
    (series,) = [one["series"] for one in found["curves"] if one["tag"] == "val/loss"]
    assert series[0]["epochs"] == [1]


def hostile():
    records = [
        {HOSTILE: value, "init": HOSTILE + value, "seed": seed, "loss": place + seed / 10}
        for place, value in enumerate("abc")
        for seed in range(3)
    ]
    return answer(loading.from_records(records, "loss"))


def test_a_name_that_is_html_stays_a_name():
    found = content(hostile())
    assert HOSTILE in found["keys"] and any(HOSTILE in one["name"] for one in found["ranking"])
    for language in ("en", "zh"):
        text = markdown(found, language)
        assert "alert" in text and "<script" not in text.replace("\\<", "") and "\\|" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {line.replace("\\|", "").count("|") for line in rows[2:5]} == {6}
    assert texts(found, "command") == [""] * 9  # made from Python: nothing repeats it


SURROGATE = "caf\udce9"  # as Python reads a name that is no UTF-8
ONE = {"init": "a", "seed": 0, "loss": 1.0}


@pytest.mark.parametrize(
    "records",
    [
        [ONE],
        [ONE, ONE | {"seed": 1, "loss": 1.1}],
        [{"seed": seed, "loss": 1.0} for seed in range(3)],
        [ONE | {"loss": None, "status": "failed"}, ONE | {"init": "b", "loss": None, "status": "diverged"}],
        [ONE | {"loss": None, "status": "running"}, ONE | {"init": "b", "loss": None, "status": "queued"}],
        [ONE, ONE | {"init": "b"}, ONE | {"init": "c", "loss": float("nan")}],
        [ONE | {"init": value} for value in (None, True, 0.5, (1, 2), "x")],
        [ONE | {"lr": 1.01**place} for place in range(200)],
        [ONE, ONE | {"init": "b", "status": "crashed"}, ONE | {"init": "c", "status": "made"}],
        [ONE | {"status": "constructor"}, ONE | {"seed": 1, "status": "<b>"}],
        [ONE | {"init": f"{SURROGATE}{place}", SURROGATE: SURROGATE} for place in range(3)],
        [ONE | {"lr": 10**place, "loss": place + 0.1} for place in (1, 300, 400, 5000)],
        [ONE | {"loss": 10**400}, ONE | {"seed": 1}, ONE | {"seed": 10**400}],
        [ONE | {"lr": value} for value in (1.0, 10.0, float("inf"), float("nan"))],
    ],
    ids=[
        *("one", "setting", "nothing-varies", "failed", "running", "one-seed", "kinds", "many"),
        *("status", "script-status", "surrogate", "huge", "huge-value", "inf"),
    ],
)
def test_whatever_there_is_has_a_page(records, tmp_path):
    said = answer(loading.from_records(records, "loss"))
    found = files.composed(said)
    json.dumps(found, allow_nan=False)
    assert len(found["runs"]["status"]) == len(records)
    for form in files.FORMATS:
        for path in files.write(said, found, tmp_path / f"page.{form}", "en"):
            path.read_text(encoding="utf-8")
    for language in ("en", "zh"):
        assert markdown(found, language).startswith("# records\n")


def test_the_table_of_settings_is_the_ranking(said, tmp_path):
    made = files.write(said, content(said), tmp_path / "report.csv", "en")
    assert [path.name for path in made] == ["report.csv", "report.settings.csv"]
    assert len(pandas.read_csv(made[0])) == 18
    read = pandas.read_csv(made[1])
    assert read["rank"].tolist() == list(range(1, 7))
    assert read["mean val/loss"].dropna().tolist() == [
        one.estimate.mean for one in said.ranking if one.estimate
    ]


def test_results_from_elsewhere_have_a_page(tmp_path):
    (page,) = sweepwise.report(hostile(), tmp_path / "page.html", "zh")
    text = page.read_text()
    assert "alert(1)" in text and "<script>alert" not in text and "http-equiv" in text
    with pytest.raises(sweepwise.UsageError, match="language=fr: must be one of en, zh"):
        sweepwise.report(hostile(), tmp_path / "page.html", "fr")


@pytest.fixture
def ended(tmp_path):
    values = {(f"init={init}",): [0.5 + 0.01 * seed for seed in range(3)] for init in INITS}
    sweeps.grid(tmp_path / "main", values)
    return tmp_path / "main"


def test_a_sweep_that_has_ended_writes_its_page(ended, capsys):
    before = len(loading.load(ended).rows)
    summary.answer_of([ended])
    page = ended / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"page          {page}"
    assert page.read_text().startswith("<!")
    assert len(loading.load(ended).rows) == before == 6


def page_of(home) -> dict:
    """What stands on the page that lies beside a sweep."""
    text = (home / "report.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', text)[1])


def configs(home, *overrides: str, seeds=range(3)):
    where = [f"output_dir={home.parent}", f"name={home.name}"]
    return [composed(*overrides, f"seed.value={seed}", *where).config for seed in seeds]


def test_the_page_of_a_second_sweep_has_the_runs_of_the_first(ended, capsys):
    first = [*configs(ended, "init=xavier"), *configs(ended, "init=zeros")]
    summary.answer_of([ended], first)
    assert page_of(ended)["counts"] == {"finished": 6} and page_of(ended)["complete"]
    second = {("init=lecun", "optimizer.lr=0.3"): [0.1, 0.2, 0.3]}
    sweeps.grid(ended, second)
    sweeps.run(ended, "init=kaiming", value=None, status="running")  # of a third sweep
    capsys.readouterr()
    summary.answer_of([ended], configs(ended, *next(iter(second))))
    told = capsys.readouterr().out
    assert told.startswith("answer        one setting") or "x 3 seeds" in told
    assert told.splitlines()[-1] == f"page          {ended / 'report.html'}"
    page = page_of(ended)
    assert page["counts"] == {"finished": 9, "interrupted": 1} and not page["complete"]
    names = [one["name"] for one in page["ranking"]]
    assert any("lecun" in name for name in names) and any("zeros" in name for name in names)


def test_runs_that_cannot_be_compared_are_counted_on_the_page(ended):
    summary.answer_of([ended])
    for seed in range(3):
        for init in INITS:
            sweeps.run(ended, "data=wine", f"init={init}", f"seed.value={seed}", value=1.0 + seed)
    wine = [*configs(ended, "data=wine", "init=xavier"), *configs(ended, "data=wine", "init=zeros")]
    summary.answer_of([ended], wine)
    page = page_of(ended)
    assert page["counts"] == {"finished": 6} and page["complete"]
    (remark,) = [one["en"] for one in page["remarks"] if "of the folder" in one["en"]]
    assert remark.startswith(
        "6 of 12 runs of the folder: all of them cannot be compared (data: must be the same"
    )
    assert any("6 of 12" in line for line in markdown(page).splitlines())


def test_a_page_made_with_other_arguments_stays(ended, script, capfd):
    page = ended / "report.html"
    for arguments in (["language=zh"], ["metric=val/accuracy"], ["init=xavier"], [f"output={page}"]):
        assert script(str(ended), *arguments)[0] == 0
        before = page.read_bytes()
        summary.answer_of([ended])
        told = " ".join(capfd.readouterr().out.split())
        assert f"no page {page} was made with other arguments, and stays" in told
        assert f"python scripts/report.py {ended} replaces it" in told
        assert page.read_bytes() == before
    assert script(str(ended))[0] == 0
    before = page.read_bytes()
    sweeps.run(ended, "init=lecun", "seed.value=0", value=0.1)
    summary.answer_of([ended])
    assert page.read_bytes() != before and page_of(ended)["counts"] == {"finished": 7}
    page.write_text("<title>mine</title>")
    summary.answer_of([ended])
    assert page.read_text() == "<title>mine</title>"


def test_of_too_many_runs_a_line_says_how_to_make_the_page(ended, monkeypatch, capsys):
    for limit, what in (("MANY", "6 runs"), ("MANY_EPOCHS", "48 epochs")):
        with monkeypatch.context() as patch:
            patch.setattr(files, limit, 5)
            summary.answer_of([ended])
        told = " ".join(capsys.readouterr().out.split())
        assert f"no page {ended} has {what}, and more than 5 take a while" in told
        assert told.endswith(f"python scripts/report.py {ended}")
    assert not list(ended.glob("report*"))


def test_no_page_is_written_where_none_is_wanted(ended, home, capsys):
    summary.answer_of(
        [ended], [{"report": False} | dict(row.run.config) for row in ()] or [{"report": False}]
    )
    summary.answer_of([home])  # one run still trains
    assert "page" not in capsys.readouterr().out
    assert not list(ended.glob("report*")) and not list(home.glob("report*"))
    few = sorted(ended.glob("*seed=*"))[:3]
    for folder in few:
        (folder / "record.json").unlink()
    summary.answer_of([ended])
    assert not list(ended.glob("report*"))


def test_a_page_that_cannot_be_written_is_one_line(ended, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    summary.answer_of([ended])
    assert capsys.readouterr().out.splitlines()[-1].startswith("no page       OSError")


@pytest.fixture
def script(as_command, empty_folder, whole_errors):
    def call(*arguments: str) -> tuple[int, str, str]:
        return as_command(str(ROOT / "scripts" / "report.py"), *arguments)

    return call


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "FOLDER: must be given"),
        (["nowhere"], "nowhere: must be an experiment's folder"),
        (["main", "format=pdf"], "format=pdf: must be of html, md, csv; a browser prints the page as PDF"),
        (["main", "format=md,docx"], "format=md,docx: must be of html, md, csv"),
        (["main", "output=page.txt"], "output=page.txt: must end in .html or .md or .csv"),
        (["main", "output=page.html", "format=md"], "output=page.html: must end in .md"),
        (["main", "output=no/page.html"], "no/page.html: must lie in a folder that exists"),
        (["main", "language=fr"], "language=fr: must be one of en, zh"),
        (["main"], "main: must hold the folder of a run, but holds none"),
    ],
)
def test_the_script_refuses_in_one_line(script, tmp_path, arguments, told):
    (tmp_path / "main").mkdir()
    code, out, complaint = script(*arguments)
    assert (code, out) == (2, "")
    assert complaint.startswith(f"error: {told}") and complaint.count("\n") == 1
    assert not list(tmp_path.glob("**/report*"))


def test_the_script_writes_what_is_asked_for(script, ended):
    code, out, complaint = script(str(ended), "format=html,md,csv", "language=zh")
    assert (code, complaint) == (0, "")
    names = ["report.csv", "report.html", "report.md", "report.settings.csv"]
    assert sorted(path.name for path in ended.glob("report*")) == names
    assert [line.split()[-1] for line in out.splitlines()] == [
        str(ended / name) for name in ("report.html", "report.md", "report.csv", "report.settings.csv")
    ]
    assert "孰优孰劣" in (ended / "report.md").read_text()
    code, _, _ = script(str(ended), str(ended), "output=both.md", "init=xavier")
    assert code == 0 and (ended.parent / "both.md").read_text().startswith("# ")
