"""What a search draws from: expected values come from closed forms, and from Hydra's own grammar."""

import math
from collections import Counter

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from sweepwise.config.drawn import in_grammar
from sweepwise.errors import UsageError
from sweepwise.search.parameters import ByOption, Choice, Number
from sweepwise.search.space import Space

PLACES = st.floats(0, 1)


def evenly(count: int) -> list[float]:
    return [(index + 0.5) / count for index in range(count)]


@given(st.floats(1e-6, 1), st.floats(1.01, 1e6), PLACES)
def test_a_logarithmic_number_is_even_in_its_logarithm_to_a_thousandth(low, ratio, place):
    high = low * ratio
    value = float(Number("a", low, high, log=True).at(place))
    exact = low * ratio**place
    assert low <= value <= high
    assert abs(value - exact) <= 1.001e-3 * exact * min(1, math.log(ratio))


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), PLACES)
def test_a_number_is_even_to_a_thousandth_of_its_range(low, width, place):
    high = low + width
    value = float(Number("a", low, high).at(place))
    assert low <= value <= high and abs(value - (low + place * (high - low))) <= 1.001e-3 * (high - low)


@given(PLACES)
def test_a_value_that_was_rounded_stays_as_it_is(place):
    for parameter in (
        Number("a", 1e-4, 0.1, log=True),
        Number("a", 0, 0.5),
        Number("a", 16, 256, whole=True),
    ):
        text = parameter.at(place)
        assert parameter.text(float(text)) == text


def test_values_have_few_digits():
    log, plain = Number("a", 1e-4, 0.1, log=True), Number("a", 0, 0.5)
    assert [log.at(place) for place in (0, 0.1, 0.5, 1)] == ["0.0001", "0.0001995", "0.003162", "0.1"]
    assert [plain.at(place) for place in (0, 1 / 3, 1)] == ["0.0", "0.1667", "0.5"]
    assert Number("a", 0.12341, 1).at(0) == "0.12341"  # 0.1234 would lie outside
    assert Number("a", 1000, 1001).at(1 / 3) == "1000.333"  # as many as tell its values apart


def test_whole_numbers_are_equally_likely_ends_included():
    counted = Counter(Number("a", 3, 7, whole=True).at(place) for place in evenly(1000))
    assert counted == dict.fromkeys("34567", 200)
    assert Number("a", 3, 7, whole=True).size == 5


def test_whole_numbers_on_a_logarithmic_scale_have_the_length_of_their_interval():
    low, high, count = 1, 8, 20_000
    counted = Counter(int(Number("a", low, high, log=True, whole=True).at(place)) for place in evenly(count))
    for number in range(low, high + 1):
        share = math.log((number + 0.5) / (number - 0.5)) / math.log((high + 0.5) / (low - 0.5))
        assert abs(counted[number] - share * count) <= 1


def test_options_are_equally_likely_each_once_and_numbers_are_in_order():
    assert Counter(Choice("init", ("a", "b", "c")).at(place) for place in evenly(300)) == dict.fromkeys(
        "abc", 100
    )
    numbers = Choice("a", ("10", "9.5", "1e-3", "9.5"))
    assert numbers.options == ("1e-3", "9.5", "10") and numbers.ordered and numbers.size == 3
    assert Choice("a", ("b", "a")).options == ("b", "a") and not Choice("a", ("b", "a")).ordered
    assert numbers.at(1.0) == "10"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((5, 1), "a=interval(5,1): a range begins at its lower end; write interval(1,5)"),
        ((1, 1), "a=interval(1,1): there is nothing between its ends; one value is written a=1"),
        ((0, math.inf), "a=interval(0,inf): the ends of a range must be finite"),
        ((0, 0.1, True), "must begin above 0; begin at 0.0001, or leave log out"),
        ((-2, -1, True), "must begin above 0; leave log out"),
        ((0, 8, True, True), "must begin above 0; begin at 1, or leave log out"),
        ((0.2, 0.8, False, True), "must be whole; leave int out"),
        ((0.2, 8.8, False, True), "must be whole; write int(interval(1,8))"),
    ],
)
def test_what_is_no_range_is_refused(given, told):
    with pytest.raises(UsageError) as refused:
        Number("a", *given)
    (fault,) = refused.value.faults
    assert fault.startswith("a=") and fault.endswith(told)


def test_a_list_without_options_is_refused():
    with pytest.raises(UsageError, match="a: has no options"):
        Choice("a", ())


def test_points_do_not_depend_on_the_order_of_keys_and_are_overrides():
    rate, init = Number("optimizer.lr", 0.01, 1, log=True), Choice("init", ("a", "b"))
    one, other = Space((rate, init), ("x=1",)), Space((init, rate), ("x=1",))
    assert one.point((0.9, 0.5)) == ("optimizer.lr=0.1", "init=b")
    assert other.point((0.9, 0.5)) == ("init=b", "optimizer.lr=0.1")
    assert one.size is None and Space((init, Choice("b", ("1", "2", "3")))).size == 6


def test_each_point_has_a_run_for_each_replicate():
    space = Space((Choice("init", ("a", "b")),), replicates=(("seed.value=0",), ("seed.value=1",)))
    assert space.runs(space.point((0.1,))) == [("init=a", "seed.value=0"), ("init=a", "seed.value=1")]


def kept(overrides):
    return overrides if "s=step" in overrides else tuple(one for one in overrides if "size" not in one)


def test_a_key_that_the_chosen_option_lacks_is_neither_set_nor_drawn():
    space = Space((Choice("s", ("step", "cosine")), Number("s.size", 1, 9, whole=True)), kept=kept)
    drawn = []

    def draw(parameter):
        drawn.append(parameter.key)
        return parameter.at(0.9)

    assert space.drawn(draw) == ("s=cosine",) and drawn == ["s"]
    assert len({space.point(row) for row in np.random.default_rng(0).random((500, 2))}) == 9 + 1


def test_a_range_may_depend_on_an_option():
    ranges = {"sgd": Number("o.lr", 1, 10), "adam": Number("o.lr", 0.1, 0.2)}
    space = Space((Choice("o", ("sgd", "adam", "x")), ByOption("o.lr", "o", ranges)))
    points = {space.point((place, 0.5)) for place in evenly(3)}
    assert points == {("o=sgd", "o.lr=5.5"), ("o=adam", "o.lr=0.15"), ("o=x",)}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"log": [1e-4, 1e-1]}, "tag(log,interval(0.0001,0.1))"),
        ({"uniform": [0, 0.5]}, "interval(0,0.5)"),
        ({"int": [1, 9]}, "tag(int,interval(1,9))"),
        ({"log_int": [16, 256]}, "tag(log,int,interval(16,256))"),
        ({"share": [5, 50]}, "tag(share,interval(5,50))"),
        ({"choice": ["xavier", 0.1, None, True, [1, 2], "a b"]}, 'xavier,0.1,null,true,[1,2],"a b"'),
        ({"choice": ["xavier"]}, "choice(xavier)"),
        ({"ordered": ["10%", "20%"]}, 'tag(ordered,choice("10%","20%"))'),
        ("interval(0,1)", "interval(0,1)"),
        (3, "3"),
    ],
)
def test_what_a_yaml_says_is_what_hydra_reads(said, line):
    assert in_grammar("a", said) == line
    sweep = OverridesParser.create().parse_override(f"a={line}")._value
    if isinstance(said, dict):
        ((kind, values),) = said.items()
        read = sweep.list if hasattr(sweep, "list") else [sweep.start, sweep.end]
        assert [getattr(one, "text", one) for one in read] == values
        words = set(kind.split("_")) & {"log", "int", "share", "ordered"}
        assert sweep.tags == words


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "must have one word"),
        ({"log": [1, 2], "int": [1, 2]}, "must have one word"),
        ({"lgo": [1, 2]}, "did you mean 'log'?"),
        ({"log": 3}, "log must be followed by a list"),
        ({"log": [1]}, "two numbers; write {log: [LOW, HIGH]}"),
        ({"int": [1, "b"]}, "two numbers"),
        ({"choice": []}, "has no options; give at least one"),
        ({"ordered": [1, None]}, "null has no place in an order"),
    ],
)
def test_a_yaml_that_says_something_else_is_refused(said, told):
    with pytest.raises(UsageError) as refused:
        in_grammar("a.b", said)
    assert refused.value.faults[0].startswith(f"a.b: {said}") and told in refused.value.faults[0]
