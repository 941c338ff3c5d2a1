"""Early stopping on curves whose best epoch is known."""

import pytest

from sweepwise.early_stop.patience import Patience


def stopped(rule: Patience, curve, epochs: int = 100) -> tuple[int, str]:
    """The epoch after which the rule stops, and why."""
    for epoch in range(epochs):
        if why := rule.update(epoch, curve(epoch)):
            return epoch, why
    return epochs, ""


def valley(epoch: int) -> float:
    return (epoch - 20) ** 2 / 400 + 0.5


@pytest.mark.parametrize(("patience", "expected"), [(1, 21), (3, 23), (5, 25), (7, 27), (10, 30)])
def test_a_valley_with_its_floor_at_epoch_20(patience, expected):
    epoch, why = stopped(Patience(patience=patience), valley)
    assert epoch == expected
    assert why == f"val/loss has not improved on 0.5 for {patience} epochs"


@pytest.mark.parametrize(("patience", "expected"), [(1, 21), (3, 23), (5, 25), (7, 27), (10, 30)])
def test_the_same_upside_down(patience, expected):
    rule = Patience(patience=patience, metric="val/accuracy")
    assert stopped(rule, lambda epoch: 1 - valley(epoch))[0] == expected


def test_a_constant_loss_stops_at_its_patience():
    # `score < best + min_delta` would take each epoch for an improvement and never stop.
    for value in (0.5, 0.0, -3.0):
        epoch, why = stopped(Patience(patience=7), lambda epoch, value=value: value)
        assert epoch == 7 and why == f"val/loss has not improved on {value:g} for 7 epochs"


def test_a_loss_that_always_falls_never_stops():
    assert stopped(Patience(patience=1), lambda epoch: -float(epoch)) == (100, "")
