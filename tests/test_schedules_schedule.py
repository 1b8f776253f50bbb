"""Schedule and Rule: what is accepted, what is refused, and the way to JSON and back."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lemica.schedules import (
    FIXED,
    ORIGINS,
    OUTPUT_FITTED,
    RULES,
    GridError,
    Rule,
    Schedule,
    ScheduleError,
    nominal_sigmas,
)
from lemica.schedules.rules import LARGEST_WEIGHT, MOST_PAST

HOLD = Rule("residual", "hold")
FITTED = (OUTPUT_FITTED,) * 2
rules = st.sampled_from(RULES)
weight = st.floats(-LARGEST_WEIGHT, LARGEST_WEIGHT)


def make(**changes):
    fields = {
        "name": "demo/b2",
        "family": "demo",
        "steps": 4,
        "computed": (0, 2),
        "rules": (HOLD, HOLD),
        "origin": "custom",
        "sigmas": (1.0, 0.75, 0.5, 0.25, 0.0),
    }
    return Schedule(**{**fields, **changes})


@st.composite
def schedules(draw, sigmas=st.booleans(), max_steps=60):
    steps = draw(st.integers(1, max_steps))
    budget = draw(st.integers(1, steps))
    others = st.sets(st.integers(1, steps - 1), min_size=budget - 1, max_size=budget - 1) if budget > 1 else st.just(())
    computed = (0, *sorted(draw(others)))
    shift = draw(st.floats(0.5, 12))
    own = tuple(draw(st.lists(rules, min_size=len(computed), max_size=len(computed))))
    weights = [
        tuple(draw(st.lists(weight, min_size=1, max_size=min(MOST_PAST, place + 1))))
        if rule.fitted and end - start > 1 else ()
        for place, (rule, start, end) in enumerate(zip(own, computed, (*computed[1:], steps), strict=True))
    ]
    return Schedule(
        name=f"drawn/{steps}b{len(computed)}",
        family="drawn",
        steps=steps,
        computed=computed,
        rules=own,
        weights=tuple(weights) if OUTPUT_FITTED in own else (),
        origin=draw(st.sampled_from(ORIGINS)),
        sigmas=nominal_sigmas(shift, steps) if draw(sigmas) else None,
        source={"note": draw(st.text(max_size=5).filter(str.isprintable))},
    )


@given(schedules())
def test_json_round_trip(schedule):
    assert Schedule.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule


@given(schedules())
def test_older_versions_read_what_has_no_weights_and_refuse_the_rest(schedule):
    data = schedule.to_json()
    assert data["schema"] == (2 if OUTPUT_FITTED in schedule.rules else 1)
    assert ("weights" in data) == (OUTPUT_FITTED in schedule.rules)


@given(schedules(), st.sampled_from(FIXED))
def test_what_is_without_a_fit_has_the_same_steps_and_no_weights(schedule, rule):
    plain = schedule.unfitted()
    assert (plain.computed, plain.weights, plain.sigmas) == (schedule.computed, (), schedule.sigmas)
    assert plain.rules == tuple(Rule("output", "half") if one.fitted else one for one in schedule.rules)
    replaced = schedule.with_rules((rule,) * schedule.budget)
    assert replaced.weights == () and set(replaced.rules) == {rule}
    kept = schedule.with_rules([rule if place % 2 else one for place, one in enumerate(schedule.rules)])
    assert all(own == () or own == was for own, was in zip(kept.weights, schedule.weights, strict=False))


@given(schedules())
def test_segments_cover_the_run(schedule):
    segments = schedule.segments()
    assert [k for i, j in segments for k in range(i, j)] == list(range(schedule.steps))
    assert len(segments) == schedule.budget


@given(rules)
def test_rule_text_round_trip(rule):
    assert Rule.parse(str(rule)) == rule


def test_rule_slopes_and_text():
    assert [Rule("output", order).slope for order in ("hold", "half", "linear")] == [0.0, 0.5, 1.0]
    assert str(Rule("output", "linear")) == "output linear"
    assert OUTPUT_FITTED.fitted and not any(rule.fitted for rule in FIXED)


@given(st.sampled_from(FIXED), st.lists(st.floats(0.01, 20), min_size=1, max_size=4, unique=True), st.floats(0, 1))
def test_the_weights_of_a_fixed_rule_add_up_to_one_and_give_back_the_newest_value_where_it_was_made(rule, sigmas, share):
    sigmas = sorted(sigmas)
    weights = rule.weights(share * sigmas[0], sigmas)
    assert sum(weights) == pytest.approx(1) and len(weights) <= rule.past
    assert rule.weights(sigmas[0], sigmas)[0] == pytest.approx(1)


@pytest.mark.parametrize("text", ["hold residual", "residual", "residual hold now", "", "Output hold", 3, None])
def test_unknown_rule_is_refused(text):
    with pytest.raises(ScheduleError):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"computed": (), "rules": ()}, "budget"),
        ({"computed": (0, 1, 2, 3, 4), "rules": (HOLD,) * 5}, "budget"),
        ({"computed": (0, 0)}, "increasing"),
        ({"computed": (0, 3, 2), "rules": (HOLD,) * 3}, "increasing"),
        ({"computed": (0, 4)}, "not in a run"),
        ({"computed": (-1, 2)}, "step 0"),
        ({"computed": (1, 2)}, "step 0"),
        ({"computed": (0, 2.0)}, "whole numbers"),
        ({"computed": (False, 2)}, "whole numbers"),
        ({"computed": "02"}, "whole numbers"),
        ({"computed": None}, "whole numbers"),
        ({"steps": 0}, "steps"),
        ({"steps": -4}, "steps"),
        ({"steps": 10_001}, "steps"),
        ({"steps": 4.0}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": "4"}, "steps"),
        ({"rules": (HOLD,)}, "one rule per"),
        ({"rules": ("residual hold", "residual hold")}, "one Rule per"),
        ({"origin": "guessed"}, "origin"),
        ({"sigmas": (1.0, 0.5, 0.25, 0.0)}, "sigmas for 4 steps"),
        ({"sigmas": (1.0, 0.75, 0.75, 0.25, 0.0)}, "decrease"),
        ({"sigmas": (0.0, 0.25, 0.5, 0.75, 1.0)}, "decrease"),
        ({"sigmas": (1.0, math.nan, 0.5, 0.25, 0.0)}, "finite"),
        ({"sigmas": (math.inf, 0.75, 0.5, 0.25, 0.0)}, "finite"),
        ({"sigmas": (1.0, 0.75, 0.5, 0.25, -0.1)}, "not negative"),
        ({"sigmas": (10**400, 0.75, 0.5, 0.25, 0.0)}, "too large"),
        ({"sigmas": (True, 0.75, 0.5, 0.25, 0.0)}, "numbers"),
        ({"sigmas": "10"}, "list of numbers"),
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "a\nb"}, "control characters"),
        ({"name": "a\u202eb"}, "control characters"),
        ({"name": "a\ud800b"}, "control characters"),
        ({"name": " a"}, "spaces"),
        ({"name": 3}, "name"),
        ({"family": "a\x00"}, "family"),
        ({"source": {"a": math.nan}}, "source"),
        ({"source": {"a": {1, 2}}}, "source"),
        ({"source": [1]}, "source"),
        ({"weights": ((1.0,), ())}, "segments that are fitted"),
        ({"rules": FITTED}, "one list per computed step"),
        ({"rules": FITTED, "weights": ((1.0,),)}, "one list per computed step"),
        ({"rules": FITTED, "weights": ((1.0,), ())}, r"weights\[1\] is \(\) for output fitted over 2 steps"),
        ({"rules": FITTED, "weights": ((1.0, 0.5), (1.0,))}, r"weights\[0\].*up to 1 numbers"),
        ({"rules": FITTED, "weights": ((1.0,), (1.0, 0.5, 0.1))}, r"weights\[1\].*up to 2 numbers"),
        ({"rules": FITTED, "weights": ((math.nan,), (1.0,))}, r"weights\[0\] holds nan"),
        ({"rules": FITTED, "weights": ((1.0,), (-math.inf,))}, r"weights\[1\] holds -inf"),
        ({"rules": FITTED, "weights": ((1001.0,), (1.0,))}, "from -1000 to 1000"),
        ({"rules": FITTED, "weights": ((10**400,), (1.0,))}, "from -1000 to 1000"),
        ({"rules": FITTED, "weights": ((True,), (1.0,))}, "holds True"),
        ({"rules": FITTED, "weights": (("1",), (1.0,))}, "holds '1'"),
        ({"rules": FITTED, "weights": "11"}, "one list per computed step"),
        ({"rules": FITTED, "weights": (1.0, 1.0)}, "up to 1 numbers"),
        ({"rules": FITTED, "computed": (0, 3), "weights": ((1.0,), (1.0,))}, "over 1 steps"),
    ],
)
def test_wrong_field_is_refused(changes, words):
    with pytest.raises(ScheduleError, match=words):
        make(**changes)


def test_wrong_sigmas_are_a_grid_error():
    with pytest.raises(GridError):
        make(sigmas=(1.0, 1.0, 0.5, 0.25, 0.0))


def test_schedule_is_frozen_and_owns_its_source():
    source = {"prompts": [1]}
    schedule = make(source=source)
    source["prompts"].append(2)
    assert schedule.source == {"prompts": [1]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.steps = 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 3}, "update the node pack"),
        ({"schema": None}, "not a schedule"),
        ({"schema": True}, "not a schedule"),
        ({"schema": 0}, "not a schedule"),
        ({"colour": "red"}, "Unknown fields colour"),
        ({"rules": "residual hold"}, "rules"),
        ({"rules": ["hold residual", "residual hold"]}, "unknown"),
        ({"computed": [0, 2.5]}, "whole numbers"),
    ],
)
def test_wrong_json_is_refused(changes, words):
    with pytest.raises(ScheduleError, match=words):
        Schedule.from_json({**make().to_json(), **changes})


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_wrong_top_level_is_refused(data):
    with pytest.raises(ScheduleError, match="JSON object"):
        Schedule.from_json(data)


def test_missing_field_is_named():
    data = make().to_json()
    del data["steps"]
    with pytest.raises(ScheduleError, match="lacks steps"):
        Schedule.from_json(data)


def test_nominal_sigmas_follow_the_shift():
    assert nominal_sigmas(1.0, 4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert nominal_sigmas(5.0, 2) == (1.0, 2.5 / 3, 0.0)
