"""The answer of a sweep: what it claims, what it must not claim, and the words and commands it gives."""

import itertools
import math
import shlex

import numpy as np
import pytest
import sweeps
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy import stats
from small import ROOT, composed

from sweepwise.errors import UsageError
from sweepwise.results import further_runs, passages, sentences, words
from sweepwise.results.answer import answer
from sweepwise.results.loading import from_records, load
from sweepwise.system.console import COLUMNS

KEYS = ("init", "optimizer.lr")


def of(values, keys=KEYS, **options):
    return answer(sweeps.table(values, keys), **options)


def said(found) -> str:
    return words.text(words.summary(found))


DRAWN = {  # of deviation 1, about their mean
    "normal": lambda generator, size: generator.normal(size=size),
    "bounded": lambda generator, size: (generator.beta(2, 8, size) - 0.2) / math.sqrt(0.16 / 11),
    "skewed": lambda generator, size: (
        (np.exp(generator.normal(size=size)) - math.exp(0.5)) / math.sqrt(math.e**2 - math.e)
    ),
}


def noisy(
    means: dict, seeds: int, deviation: float, generator, shared: float = 0.0, drawn: str = "normal"
) -> dict:
    """Values around means; `shared` is the deviation of what a seed does to all settings alike."""
    alike = generator.normal(0, shared, seeds)
    return {
        setting: (mean + alike + deviation * DRAWN[drawn](generator, seeds)).tolist()
        for setting, mean in means.items()
    }


def test_pairs_are_compared_as_scipy_does_with_holms_adjustment():
    values = noisy({("a",): 0.0, ("b",): 1.0, ("c",): 1.1}, 8, 0.3, np.random.default_rng(3))
    found = of(values, ("init",)).comparisons["init"]
    raw = {
        (one, two): stats.ttest_rel(values[one,], values[two,]).pvalue
        for one, two in itertools.combinations("abc", 2)
    }
    steps = sorted(raw.values())
    holm = [max(steps[k] * (3 - k) for k in range(place + 1)) for place in range(3)]
    assert sorted(one.difference.adjusted for one in found) == pytest.approx(holm, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("behind", [1, 3, 6])
def test_a_level_with_many_good_settings_is_not_better_than_one_with_a_single_good_one(behind, seeds):
    """Where most is gained by choosing: 9 equal rates against one as good, with 8 that are worse."""
    sweeps_of_each = 150
    generator = np.random.default_rng(behind)
    means = {(level, rate): behind * (level == 1 and rate > 0) for level in (0, 1) for rate in range(9)}
    wrong = 0
    for _ in range(sweeps_of_each):
        (one,) = of(noisy(means, seeds, 1.0, generator), compare="init", thorough=False).comparisons["init"]
        wrong += one.verdict.kind == "better"
    assert wrong <= 0.05 * sweeps_of_each + 3 * math.sqrt(0.05 * 0.95 * sweeps_of_each)


@pytest.mark.slow
@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(
    "rates", [[1] * 4, [3] * 3, [1] * 12, [16, 16], [2] * 16, [1, 16], [1, 1, 4], [3, 9]]
)
def test_equal_settings_are_called_better_in_at_most_5_percent_of_sweeps(rates, seeds, drawn):
    """All keys asked at once, each level at its best rate; the count may be 3 deviations above 5 %."""
    sweeps_of_each = 100
    generator = np.random.default_rng(len(rates) * 100 + rates[-1])
    means = {(level, rate): 0.0 for level, number in enumerate(rates) for rate in range(number)}
    wrong = 0
    for _ in range(sweeps_of_each):
        found = of(noisy(means, seeds, 1.0, generator, 0.5, drawn), thorough=False)
        wrong += any(
            one.verdict is not None and one.verdict.kind == "better"
            for comparisons in found.comparisons.values()
            for one in comparisons
        )
    assert wrong <= 0.05 * sweeps_of_each + 3 * math.sqrt(0.05 * 0.95 * sweeps_of_each)


def test_one_seed_claims_nothing_and_says_so_in_one_line(tmp_path):
    home = tmp_path / "outputs" / "main"
    sweeps.grid(home, {("init=xavier",): [0.1], ("init=kaiming",): [0.9]})
    text = said(answer(load(home)))
    assert "no claim      each setting has one run" in text
    assert "better than" not in text and "undecided" not in text
    assert text.splitlines()[-1].endswith("seed.value=1,2,3,4")


def test_two_seeds_far_apart_are_no_proof_where_they_scatter():
    found = of({("a",): [0.1, 0.5], ("b",): [0.9, 0.3]}, ("init",))
    assert found.comparisons["init"][0].verdict.kind == "undecided"


def test_equal_results_to_the_bit_are_told(tmp_path):
    found = of(
        {("step",): [0.3, 0.2, 0.1], ("constant",): [0.3, 0.2, 0.1], ("cosine",): [0.9, 0.8, 0.7]},
        ("scheduler",),
    )
    text = said(found)
    assert "constant (= step, to the bit) better than cosine by 0.6" in " ".join(text.split())


def test_a_setting_that_fails_is_never_better_by_its_survivors():
    means = {("lucky",): [0.1, 0.1, 0.11, None], ("solid",): [0.5, 0.52, 0.51, 0.5]}
    found = of(means, ("init",))
    assert [one.name for one in found.ranking] == ["init=solid", "init=lucky"]
    one = found.comparisons["init"][0]
    assert (one.better.name, one.verdict.kind) == ("solid", "undecided")
    text = " ".join(said(found).split())
    assert (
        "solid or lucky: undecided, as lucky is ahead by 0.407 [0.378, 0.435], but lucky failed 1 of 4"
        in text
    )
    assert "diverged 1 of 8 runs: 1 of the 4 with init=lucky; ranked last" in text


def test_who_is_ahead_is_said_of_the_replicates_that_are_compared():
    """Over all its seeds constant has the worse mean, in the shared ones the better."""
    values = {"cosine": [1.0, 1.2], "constant": [0.9, 1.0, 2.0, 2.1]}
    runs = [
        {"scheduler": name, "seed": i, "loss": x} for name, xs in values.items() for i, x in enumerate(xs)
    ]
    found = answer(from_records(runs, "loss"))
    (one,) = found.comparisons["scheduler"]
    assert [ranked.name for ranked in found.ranking] == ["scheduler=cosine", "scheduler=constant"]
    assert (one.better.name, one.ahead, round(one.difference.mean, 9)) == ("constant", True, -0.15)
    assert sentences.verdict(one).startswith("constant or cosine: undecided, ahead by 0.15")
    assert "constant or cosine: undecided" in said(found)


def test_a_winner_that_does_not_rank_first_is_not_said_of_what_does():
    """A setting with one run ranks first by its mean; what new seeds may give is known of another one."""
    values = {"lucky": [0.01], "a": [0.10, 0.14, 0.12], "b": [0.11, 0.13, 0.125]}
    runs = [{"init": name, "seed": i, "loss": x} for name, xs in values.items() for i, x in enumerate(xs)]
    found = answer(from_records(runs, "loss"))
    assert found.ranking[0].name == "init=lucky" and found.winner.name == ("a",)
    assert not passages.expected(found)


def test_a_setting_without_any_value_is_last_and_named():
    found = of({("a",): [0.1, 0.2, 0.3], ("b",): [None, None, None]}, ("init",))
    assert found.ranking[-1].name == "init=b" and found.ranking[-1].estimate is None
    assert "b has no value: b failed 3 of 3 times" in said(found)


def test_the_winner_is_not_sold_as_good_as_it_looks():
    generator = np.random.default_rng(5)
    gained = []
    for _ in range(100):
        found = of(noisy({(level,): 0.0 for level in range(32)}, 5, 1.0, generator), ("init",))
        gained.append((found.winner.seen.mean, found.winner.fair))
    seen, fair = np.mean(gained, axis=0)
    assert seen < -0.8 and abs(fair) < 0.15
    assert "as the best of 32 it looks too good" in " ".join(said(found).split())


def test_a_margin_makes_equivalent_what_differs_by_less():
    values = noisy({("a",): 0.0, ("b",): 0.0}, 10, 0.01, np.random.default_rng(6))
    assert (
        of(values, ("init",), compare="init", margin=0.1).comparisons["init"][0].verdict.kind == "equivalent"
    )
    one = of(values, ("init",), compare="init", margin=1e-6).comparisons["init"][0]
    assert one.verdict.kind == "undecided" and one.verdict.needed.n > 10


def test_a_baseline_is_compared_with_each_other():
    values = noisy({(name,): 0.0 for name in "abcd"}, 4, 1.0, np.random.default_rng(7))
    found = of(values, ("init",), compare="init", baseline="b").comparisons["init"]
    assert len(found) == 3 and all("b" in (one.better.name, one.other.name) for one in found)
    with pytest.raises(UsageError, match=r"^baseline=e: must be a level of init; there is a, b, c, d"):
        of(values, ("init",), compare="init", baseline="e")
    with pytest.raises(UsageError, match=r"^baseline=a: needs compare=KEY"):
        of(values, ("init",), baseline="a")


def test_replicates_that_one_setting_lacks_are_left_out_of_pairs():
    values = {("a",): [0.1, 0.2, 0.3, 0.4, 0.35], ("b",): [0.3, 0.5, 0.5]}
    one = of(values, ("init",)).comparisons["init"][0]
    assert one.difference.how == "paired" and one.difference.n_a == 3 and one.difference.left_out == 2
    assert "note          the settings have unequal numbers of runs, 3 to 5" in said(of(values, ("init",)))


@pytest.mark.parametrize("levels", [2, 5, 30])
@pytest.mark.parametrize("number", [1, 3, 8])
def test_the_end_of_a_sweep_takes_at_most_20_lines(levels, number):
    keys = tuple(f"optimizer.some_long_name_{place}" for place in range(number))
    generator = np.random.default_rng(8)
    settings = {tuple(generator.integers(0, levels, number).tolist()) for _ in range(60)}
    values = {setting: [None, *generator.normal(size=2).tolist()] for setting in settings}
    lines = said(of(values, keys)).splitlines()
    assert len(lines) <= words.MOST_LINES
    assert all(len(line) <= COLUMNS for line in lines if "python" not in line)


def commands(found) -> list[list[str]]:
    """The words of each command that an answer gives."""
    lines = [text for _, text in words.full(found) if text.startswith("python ")]
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        [("init=xavier",), ("init=kaiming",)],
        [("init=xavier", "optimizer.lr=0.1"), ("init=kaiming", "optimizer.lr=0.01")],
        [("scheduler=step", "scheduler.step_size=3"), ("scheduler=cosine",)],
        [("regularizer=[l1,dropout]",), ("regularizer=l2", "regularizer.l2.coefficient=0.1")],
        [("model.hidden=[8,8]", "data=wine"), ("model.hidden=[8]", "data=wine")],
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_next_command_composes_and_adds_seeds_to_these_settings(tmp_path, settings, seeds):
    home = tmp_path / "outputs" / "main"
    close = dict(zip(settings, ([0.1, 0.3, 0.2], [0.2, 0.15, 0.4]), strict=True))
    sweeps.grid(home, {key: values[:seeds] for key, values in close.items()})
    found = commands(answer(load(home)))
    jobs = set()
    for program, script, several, *overrides in found:
        assert (program, several) == ("python", "-m") and (ROOT / script).exists()
        axes = []
        for override in overrides:
            read = OverridesParser.create().parse_override(override)
            swept = read.sweep_string_iterator() if read.is_sweep_override() else [None]
            axes.append([override if each is None else f"{read.key_or_group}={each}" for each in swept])
        for job in itertools.product(*axes):
            request = composed(*job)
            assert request.config["seed"]["value"] >= seeds and request.home == home
            jobs.add(
                tuple(
                    override
                    for override in job
                    if override.split("=")[0] not in ("seed.value", "output_dir", "name")
                )
            )
    assert {frozenset(setting) for setting in settings} <= {frozenset(job) for job in jobs}


def test_what_is_decided_is_to_be_confirmed(tmp_path):
    home = tmp_path / "outputs" / "main"
    sweeps.grid(home, {("init=xavier",): [0.1, 0.11, 0.12], ("init=kaiming",): [0.9, 0.92, 0.91]})
    assert commands(answer(load(home))) == [["python", "scripts/confirm.py", str(home)]]


def test_markdown_says_the_same_and_shows_any_name_as_text():
    found = of({("<b>a|b</b>",): [0.1, 0.2], ("c`d`",): [0.4, 0.3]}, ("init",))
    text = words.markdown(found)
    assert "<b>" not in text and r"\<b\>a\|b\</b\>" in text
    assert all(
        sentences.number(one.estimate).replace("[", r"\[").replace("]", r"\]") in text
        for one in found.ranking
    )


def test_new_seeds_fill_the_holes_and_leave_those_of_a_confirmation(tmp_path):
    home = tmp_path / "outputs" / "main"
    sweeps.grid(home, {("init=xavier",): [0.1, 0.3, 0.2, 0.2], ("init=kaiming",): [0.2, 0.15]})
    table = load(home)
    assert further_runs.new_seeds(table, list(table.cells), 3) == [2, 3, 4]
    (home / ".sweep").mkdir()
    (home / ".sweep" / "confirmation.json").write_text('{"seeds": [3, 4]}')
    assert further_runs.new_seeds(table, list(table.cells), 3) == [2, 5, 6]


def test_the_next_command_finds_configs_where_the_runs_found_them(tmp_path):
    home = tmp_path / "outputs" / "main"
    flags = ["--config-dir", "my confs", "--config-name=mine", "hydra.searchpath=[file:///b]"]
    called = {
        "environment": {**sweeps.ENVIRONMENT, "command": ["train.py", *flags, "-m", "init=xavier,zeros"]}
    }
    for init, value in (("xavier", 0.1), ("zeros", 0.2)):
        sweeps.run(home, f"init={init}", "seed.value=0", value=value, **called)
    (found,) = commands(answer(load(home)))
    assert found[:7] == ["python", "train.py", *flags, "-m"]


def test_streams_of_a_seed_that_varied_are_not_held_in_the_next_command(tmp_path):
    home = tmp_path / "outputs" / "main"
    for seed, values in enumerate([[0.1, 0.3, 0.2], [0.2, 0.15, 0.4]]):
        for init, value in zip(("xavier", "kaiming", "lecun"), values, strict=True):
            sweeps.run(home, f"init={init}", f"seed.init={seed}", "seed.value=0", value=value)
    (command, *_) = commands(answer(load(home)))
    assert not any(word.startswith("seed.init") for word in command)


def test_a_key_that_decides_about_failures_is_named_by_the_share_that_fails():
    means = {
        ("a", 0.1): [0.1, 0.2, None],
        ("a", 9.0): [None] * 3,
        ("b", 0.1): [0.1, 0.2, None],
        ("b", 1.0): [None] * 3,
    }
    means |= {("b", 0.2): [None, None, 0.1]}
    assert "3 of the 3 with optimizer.lr=9" in " ".join(said(of(means)).split())


def test_one_setting_has_its_standard_deviation():
    assert "standard deviation 0.1 between 3 runs" in " ".join(
        said(of({("a",): [0.1, 0.2, 0.3]}, ("init",))).split()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("outer", "inner"), [(2, 10), (3, 3), (5, 4)])
def test_crossed_replicates_are_no_independent_draws(outer, inner):
    """Two equal settings, where the outer factor, such as the split, does most to each of them."""
    generator = np.random.default_rng(outer)
    wrong = 0
    for _ in range(300):
        records = [
            {"init": init, "split": split, "seed": seed, "loss": effects[split] + generator.normal(0, 0.3)}
            for init in "ab"
            for effects in [generator.normal(size=outer)]
            for split in range(outer)
            for seed in range(inner)
        ]
        (one,) = answer(from_records(records, "loss", ["split", "seed"]), thorough=False).comparisons["init"]
        wrong += one.verdict.kind == "better"
    assert wrong <= 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)


def test_levels_without_a_split_in_common_are_not_told_apart():
    records = [
        {"lr": lr, "data.split_seed": split, "seed.value": seed, "loss": 10 * lr + seed / 100}
        for lr, split in ((0.1, 0), (0.2, 1))
        for seed in range(4)
    ]
    found = answer(from_records(records, "loss", ["data.split_seed", "seed.value"]))
    assert found.comparisons["lr"][0].verdict is None
    assert "no split or seed in common" in " ".join(said(found).split())


def test_a_sweep_of_which_nothing_has_a_value_is_told_as_it_is():
    text = said(of({("a",): [None, None], ("b",): [None, None]}, ("init",)))
    assert "diverged      4 of 4 runs" in text and "better" not in text.replace("is better", "")


def test_results_from_elsewhere_say_which_values_are_better():
    records = [
        {"init": i, "seed": s, "auc": x + s / 100} for i, x in (("a", 0.9), ("b", 0.5)) for s in range(3)
    ]
    assert answer(from_records(records, "auc", mode="max")).ranking[0].name == "init=a"
    assert answer(from_records(records, "auc")).ranking[0].name == "init=b"
    with pytest.raises(UsageError, match=r"^records: \{'seed': 0\} is there twice"):
        from_records([*records, records[0]], "auc")


def test_the_next_command_keeps_the_splits(tmp_path):
    home = tmp_path / "outputs" / "main"
    for split in (0, 1):
        for init, values in {"xavier": (0.1, 0.4), "kaiming": (0.3, 0.1)}.items():
            for seed, value in enumerate(values):
                sweeps.run(
                    home, f"init={init}", f"data.split_seed={split}", f"seed.value={seed}", value=value
                )
    table = load(home)
    (command,) = further_runs.commands(table, list(table.cells), 2)
    assert "data.split_seed=0,1 seed.value=2,3" in command
    assert "are not independent: intervals count values, not runs" in table.remarks[0]


def test_intervals_stay_inside_what_a_metric_can_be():
    (one,) = answer(sweeps.table({("a",): [0.99, 0.7]}, ("init",), "val/accuracy")).ranking
    assert (one.estimate.low, one.estimate.high) == (0.0, 1.0)


def test_skewed_values_are_warned_of_and_normal_ones_not():
    for drawn, warned in (("skewed", True), ("normal", False)):
        values = noisy({(level,): 0.0 for level in range(12)}, 8, 1.0, np.random.default_rng(0), drawn=drawn)
        text = " ".join(words.text(words.full(of(values, ("init",)))).split())
        assert ("the values are skewed" in text) == warned
