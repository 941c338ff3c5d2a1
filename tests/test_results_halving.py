"""Successive halving replayed on logged curves: by hand, by every draw there is, and what is refused."""

import itertools
import json
import math

import numpy as np
import pytest
from logged_runs import Logged

from sweepwise.errors import UsageError
from sweepwise.results.replay import content as replay_content
from sweepwise.results.replay import sentences as replay_sentences
from sweepwise.results.replay.early_stopping import replay
from sweepwise.results.replay.halving import halving


def replayed(sweep, rungs, eta, **options):
    return halving(sweep.table(), rungs, eta, reader=sweep.read, **options)


def straight(order):
    """Nine settings of 10 epochs whose values keep their order, but at epoch 0: there they have this one."""
    sweep = Logged()
    for a in range(9):
        sweep.add(a, 0, val_loss=[100.0 + order[a], *[float(a)] * 9])
    return sweep


def test_what_is_kept_and_saved_by_hand():
    kept = replayed(straight(range(9)), [1, 3], 3)
    assert (kept.winner, kept.settings, kept.sizes) == ((0,), 9, (9, 3, 1))
    assert (kept.kept, kept.seeds_kept, kept.own_kept, kept.by_means) == (1, 1, 1, True)
    assert kept.saved == pytest.approx(1 - (6 * 1 + 2 * 3 + 10) / 90) and kept.lost == 0
    lost = replayed(straight([8, 0, 1, 2, 3, 4, 5, 6, 7]), [1, 3], 3)  # the winner begins as the worst
    assert (lost.kept, lost.seeds_kept, lost.own_kept, lost.by_means) == (0, 0, 0, False)
    assert lost.lost == 1 and lost.draws == 1  # what it chooses is the second best
    assert replayed(straight([8, 0, 1, 2, 3, 4, 5, 6, 7]), [3, 9], 3).kept == 1


def test_usual_rungs_are_powers_of_eta_that_leave_a_setting():
    assert replayed(straight(range(9)), None, 3).rungs == (1, 3)
    assert replayed(straight(range(9)), None, 2).rungs == (1, 2, 4)
    assert replayed(straight(range(9)), None, 9).rungs == (1,)


def by_hand(costs, ends, rungs, eta):
    """One search, as its source has it: the settings that are left after the last rung."""
    left, count = list(range(len(ends))), len(ends)
    for place in range(len(rungs)):
        left = sorted(left, key=lambda a: costs[a][place])[: max(count // eta ** (place + 1), 1)]
    return left


def test_draws_and_seeds_are_those_of_a_search_by_hand():
    generator = np.random.default_rng(5)
    rungs, eta = [2, 5], 2
    sweep, curves = Logged(), {}
    for a, seed in itertools.product(range(5), range(3)):
        curves[a, seed] = (0.25 * a + generator.normal(size=9)).tolist()
        sweep.add(a, seed, val_loss=curves[a, seed])
    found = replayed(sweep, rungs, eta)

    def search(seeds):
        chosen = [curves[a, seed] for a, seed in enumerate(seeds)]
        return by_hand(
            [[c[rung - 1] for rung in rungs] for c in chosen], [min(c) for c in chosen], rungs, eta
        )

    means = [np.mean([min(curves[a, seed]) for seed in range(3)]) for a in range(5)]
    best = int(np.argmin(means))
    assert found.winner == (best,)
    assert found.seeds_kept == sum(best in search([seed] * 5) for seed in range(3))
    own = [min(range(5), key=lambda a: min(curves[a, seed])) for seed in range(3)]
    assert found.own_kept == sum(own[seed] in search([seed] * 5) for seed in range(3))
    every = [search(seeds) for seeds in itertools.product(range(3), repeat=5)]
    share = np.mean([best in left for left in every])
    assert found.kept == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / found.draws))
    assert found.saved == pytest.approx(1 - (3 * 2 + 1 * 5 + 9) / 45)
    costs = np.mean([[curves[a, s][rung - 1] for rung in rungs] for a in range(5) for s in range(3)], axis=0)
    assert costs.shape == (2,)
    averaged = [np.mean([[curves[a, s][r - 1] for r in rungs] for s in range(3)], axis=0) for a in range(5)]
    assert found.by_means == (best in by_hand(averaged, means, rungs, eta))


def test_chance_decides_where_values_are_equal():
    sweep = Logged()
    for a, seed in itertools.product(range(3), range(2)):
        sweep.add(a, seed, val_loss=[1.0, 1.0, 0.5 + a / 10])
    assert replayed(sweep, [1], 3).kept == pytest.approx(1 / 3, abs=0.06)


def test_higher_is_better_of_an_accuracy():
    sweep = Logged("val/accuracy")
    for a in range(4):
        sweep.add(a, 0, val_accuracy=[0.1 * a, 0.1 * a, 0.2 * a])
    found = replayed(sweep, [1], 2)
    assert (found.winner, found.kept) == ((3,), 1)


def test_runs_that_ended_before_a_rung_count_with_what_they_ended_with():
    from sweepwise.early_stop.patience import Patience

    sweep = Logged().add("soon", 0, own=Patience(patience=1), val_loss=[1.0, 0.2, 0.9, 0.9, 0.9, 0.9])
    for a in "abc":
        sweep.add(a, 0, val_loss=[1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    found = replayed(sweep, [4], 4)
    assert (found.winner, found.kept) == (("soon",), 1)
    assert found.saved == pytest.approx(1 - (3 + 3 * 4) / (3 + 3 * 6))
    assert replayed(sweep, [3], 4).kept == 1  # its last epoch is a rung, but its weights are the best ones


def test_what_diverged_or_failed_is_worst_from_there_on():
    sweep = (
        Logged().add("good", 0, val_loss=[3.0, 2.0, 1.0, 0.5]).add("poor", 0, val_loss=[9.0, 8.0, 7.0, 6.0])
    )
    sweep.add("burst", 0, "diverged", val_loss=[0.1, 0.1]).add("gone", 0, "failed")
    late = replayed(sweep, [3], 4)
    assert (late.winner, late.kept, late.settings) == (("good",), 1, 4)
    assert replayed(sweep, [1], 4).kept == 0  # before it burst it was ahead


def test_settings_that_cannot_take_part_are_counted():
    sweep = straight(range(9)).add("later", 0, "running", val_loss=[0.0, 0.0])
    found = replayed(sweep, [1, 3], 3)
    assert (found.settings, found.left_out) == (9, 1)
    table = sweep.table()
    text = replay_sentences.halved(replay(table, reader=sweep.read), found)
    assert "; 1 setting left out" in text["en"] and "1 组设置未参与" in text["zh"]


def test_the_latest_validation_counts():
    sweep = Logged()
    for a in range(4):
        sweep.add(a, 0, val_loss=[None, a, None, a, None, a], train_loss=[1.0] * 6)
    assert replayed(sweep, [3], 2).kept == 1
    with pytest.raises(UsageError, match="rungs=1: val/loss must have been measured by the first rung"):
        replayed(sweep, [1], 2)


@pytest.mark.parametrize(
    ("rungs", "eta", "rule"),
    [
        ([], 3, "rungs=: must be epochs"),
        ([0, 3], 3, "rungs=0,3: must be epochs"),
        ([3, 3], 3, "rungs=3,3: must be epochs"),
        ([3, 10], 3, "rungs=3,10: must be fewer than the 10 epochs"),
        ([1], 1, "eta=1: must be a whole number, 2 or more"),
        ([1], 2.5, "eta=2.5: must be a whole number"),
    ],
)
def test_bad_values_are_refused(rungs, eta, rule):
    with pytest.raises(UsageError) as refused:
        replayed(straight(range(9)), rungs, eta)
    assert str(refused.value).startswith(rule)


def test_one_setting_is_no_search():
    with pytest.raises(UsageError, match=r"two settings or more .* but 1 have"):
        replayed(Logged().add(0, 0, val_loss=[1.0, 2.0, 3.0]), [1], 2)
    with pytest.raises(UsageError, match="have ended, but none has"):
        replayed(Logged().add(0, 0, "running", val_loss=[1.0, 2.0, 3.0]), [1], 2)


def test_the_page_gets_plain_data():
    sweep = straight(range(9))
    found = replay(sweep.table(), reader=sweep.read)
    one = halving(found.table, [1, 3], 3, curves=found.curves)
    content = json.loads(json.dumps(replay_content.as_content(found, [one]), allow_nan=False))
    assert content["halving"] == [
        {
            "rungs": [1, 3],
            "eta": 3,
            "kept_winner": 1.0,
            "kept_in_draws": 1.0,
            "runs": 9,
            "saved_share": pytest.approx(one.saved),
        }
    ]
    assert set(content["rows"][0]) == {
        *("metric", "patience", "min_delta", "censored", "n"),
        *("saved_share", "saved_low", "saved_high", "lost", "lost_low", "lost_high"),
    }
    assert "successive halving after 1, 3 epochs" in content["text"]["en"].lower()
    assert "逐次减半" in content["text"]["zh"]


def test_a_choice_that_fails_more_often_is_told_apart_from_what_is_lost():
    """Of the other setting's runs two are better and one is gone: a search with one of them cannot know."""
    sweep = Logged()
    for seed in range(3):
        sweep.add("sound", seed, val_loss=[2.0 + seed / 10] * 4)
    sweep.add("frail", 0, "failed")
    for seed in range(1, 3):
        sweep.add("frail", seed, val_loss=[1.0 + seed / 10] * 4)
    found = replayed(sweep, [1], 2)
    assert (found.winner, found.by_means, found.lost) == (("sound",), True, 0)
    assert found.failing == pytest.approx(2 / 3, abs=0.06) and found.kept == pytest.approx(1 - found.failing)
    text = replay_sentences.halved(replay(sweep.table(), reader=sweep.read), found)
    assert "worse by 0 on average over draws, and fails in more of its runs than the best in" in text["en"]
    assert "失败的训练多于最佳设置（不计入该平均值）" in text["zh"]


def test_where_every_setting_has_a_failure_the_others_count():
    sweep = Logged()
    for a in range(3):
        sweep.add(a, 0, "failed").add(a, 1, val_loss=[a + 0.1] * 4).add(a, 2, val_loss=[a + 0.2] * 4)
    found = replayed(sweep, [1], 3)
    assert (found.winner, found.by_means, found.failing) == ((0,), True, 0)
    chosen = []
    for failed in itertools.product((True, False, False), repeat=3):
        left = [a for a in range(3) if not failed[a]]
        chosen.append(min(left) if left else 1)  # of three that failed any: the middle one on average
    assert found.lost == pytest.approx(np.mean(chosen), abs=0.1)
