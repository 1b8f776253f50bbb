"""The solver against brute force, networkx and a plain dynamic programme, and everything that it refuses."""

import doctest
import itertools
import math
import random
from fractions import Fraction

import lemica.calibration.solver
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration.solver import OBJECTIVES, Constraints, Edge, InfeasibleError, Path, SolverError, solve, sweep
from lemica.schedules import Rule, nominal_sigmas

HOLD, HALF, LINEAR = (Rule("output", order) for order in ("hold", "half", "linear"))
FEW = (0.0, 0.1, 0.2, 0.30000000000000004, 1.0)
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)  # their sums are equal in many ways
MANY = (*FEW, 0.3, 5e-324, 1e-9, 7.0, 1e12)


def random_edges(draw, steps, rules, errors, second_order, density=1.0):
    """Segments that a coin leaves in, with errors from a small set; slopes get the second order if wanted."""
    edges = []
    for rule in rules:
        for start, end in itertools.combinations(range(steps + 1), 2):
            befores = range(start) if second_order and rule.slope and start else (-1,)
            if end > start + 1:
                edges += [Edge(h, start, end, rule, draw.choice(errors)) for h in befores if draw.random() < density]
    draw.shuffle(edges)
    return edges


@st.composite
def problems(draw):
    coin = random.Random(draw(st.integers(0, 2**32)))
    steps = draw(st.integers(1, 9))
    rules = draw(st.sampled_from([(HOLD,), (LINEAR,), (LINEAR, HOLD), (HOLD, HALF, LINEAR)]))
    density = draw(st.sampled_from([1.0, 0.8, 0.4, 0.0]))
    edges = random_edges(coin, steps, rules, draw(st.sampled_from([FEW, QUARTERS, MANY, (1.0,)])), draw(st.booleans()), density)
    tail = draw(st.booleans())
    first = draw(st.integers(1, min(steps, 3)))
    fixed = {step for step in range(steps) if coin.random() < draw(st.sampled_from([0, 0.2]))}
    free = set(range(first, steps - (not tail))) - fixed
    reused = {step for step in free if coin.random() < draw(st.sampled_from([0, 0.3]))}
    pairs = list(itertools.combinations(range(steps + 1), 2))
    forbidden = {pair for pair in pairs if coin.random() < draw(st.sampled_from([0, 0.1]))}
    return edges, steps, Constraints(tail=tail, first=first, fixed=fixed, reused=reused, forbidden=forbidden)


def options(edges):
    """{(start, end, before): [(error, place of the rule), ...]} with the rules by first appearance."""
    rules = list(dict.fromkeys(edge.rule for edge in edges))
    found = {}
    for before, start, end, rule, error in edges:
        found.setdefault((start, end, before), []).append((error, rules.index(rule)))
    return rules, found


def every_path(edges, steps, constraints):
    """Every path that the constraints allow, each with the best rules."""
    rules, found = options(edges)
    must = {*range(constraints.first), *constraints.fixed, *(() if constraints.tail else (steps - 1,))}
    for kept in itertools.product((True, False), repeat=steps - 1):
        computed = (0, *(step for step, keep in enumerate(kept, 1) if keep))
        segments = list(zip(computed, (*computed[1:], steps), strict=True))
        if not must <= set(computed) or set(constraints.reused) & set(computed):
            continue
        if set(constraints.forbidden) & set(segments):
            continue
        taken = []
        for before, (start, end) in zip((-1, *computed), segments, strict=False):
            pool = [*found.get((start, end, -1), ()), *(found.get((start, end, before), ()) if start else ())]
            if end == start + 1:
                taken.append((0.0, None))
            elif pool:
                error, place = min(pool)
                taken.append((error, rules[place]))
        if len(taken) == len(segments):
            errors, chosen = zip(*taken, strict=True)
            yield Path(steps, computed, chosen, errors)


def brute_force(edges, steps, constraints, objective):
    """The best path of every budget by the documented order."""
    best = {}
    for path in every_path(edges, steps, constraints):
        total = sum(map(Fraction, path.segment_errors)) if objective == "shortest" else 0
        key = (total, path.errors, path.computed)
        if path.budget not in best or key < best[path.budget][0]:
            best[path.budget] = key, path
    return {budget: path for budget, (_, path) in best.items()}


@settings(deadline=None)
@given(problems(), st.sampled_from(OBJECTIVES))
def test_equals_brute_force_for_every_budget(problem, objective):
    edges, steps, constraints = problem
    expected = brute_force(edges, steps, constraints, objective)
    if expected:
        found = sweep(edges, steps, constraints, objective=objective)
        assert found == expected
        assert list(found) == sorted(found)
    else:
        with pytest.raises(InfeasibleError, match="No path leads"):
            sweep(edges, steps, constraints, objective=objective)


@settings(deadline=None)
@given(problems(), st.sampled_from(OBJECTIVES))
def test_solve_is_the_sweep_at_one_budget(problem, objective):
    edges, steps, constraints = problem
    expected = brute_force(edges, steps, constraints, objective)
    for budget in range(1, steps + 1):
        if budget in expected:
            assert solve(edges, steps, budget, constraints, objective=objective) == expected[budget]
            continue
        with pytest.raises(InfeasibleError) as caught:
            solve(edges, steps, budget, constraints, objective=objective)
        below = [other for other in expected if other < budget]
        above = [other for other in expected if other > budget]
        assert caught.value.nearest == (*([max(below)] if below else ()), *([min(above)] if above else ()))
        assert all(str(other) in str(caught.value) for other in caught.value.nearest)


def plain_labels(edges, steps):
    """Forward over sorted tuples, first order, tied labels by the smallest path: slow, and obvious."""
    cost = {(start, start + 1): 0.0 for start in range(steps)}
    for _, start, end, _, error in edges:
        cost[start, end] = min(error, cost.get((start, end), math.inf))
    labels = {(0, 0): ((), ())}
    for end in range(1, steps + 1):
        for (start, stop), error in cost.items():
            for budget in range(start + 1) if stop == end else ():
                if (start, budget) in labels:
                    errors, path = labels[start, budget]
                    label = (tuple(sorted((*errors, error), reverse=True)), (*path, start))
                    labels[end, budget + 1] = min(label, labels.get((end, budget + 1), label))
    return {budget: label for (end, budget), label in labels.items() if end == steps}


@pytest.mark.parametrize("errors", [FEW, MANY, tuple(k / 97 for k in range(97))])
def test_longer_runs_equal_a_plain_dynamic_programme(errors):
    draw = random.Random(len(errors))
    steps = 26
    edges = [e for e in random_edges(draw, steps, (HOLD,), errors, False) if e.end - e.start <= 7]
    paths = sweep(edges, steps)
    assert list(paths) == list(range(4, 27))
    assert {budget: (path.errors, path.computed) for budget, path in paths.items()} == plain_labels(edges, steps)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12))
def test_shortest_path_has_the_total_that_networkx_finds(seed, steps):
    edges = random_edges(random.Random(seed), steps, (HOLD,), MANY, False, density=0.8)
    layers = nx.DiGraph()
    for count in range(steps):
        layers.add_weighted_edges_from(((i, count), (i + 1, count + 1), 0.0) for i in range(steps))
        layers.add_weighted_edges_from(((e.start, count), (e.end, count + 1), e.error) for e in edges)
    for budget in range(1, steps + 1):
        reachable = nx.has_path(layers, (0, 0), (steps, budget))
        if not reachable:
            with pytest.raises(InfeasibleError):
                solve(edges, steps, budget, objective="shortest")
            continue
        length = nx.dijkstra_path_length(layers, (0, 0), (steps, budget))
        assert solve(edges, steps, budget, objective="shortest").total == pytest.approx(length, rel=1e-12, abs=1e-320)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_worst_error_falls_with_the_budget_when_longer_segments_are_worse(seed, steps, tail):
    draw = random.Random(seed)
    error = {}
    for span in range(2, steps + 1):
        for start in range(steps - span + 1):
            end = start + span
            inner = max(error.get((start + 1, end), 0.0), error.get((start, end - 1), 0.0))
            error[start, end] = max(inner, draw.choice(FEW))
    edges = [Edge(-1, start, end, HOLD, value) for (start, end), value in error.items()]
    worst = [path.worst for path in sweep(edges, steps, Constraints(tail=tail)).values()]
    assert worst == sorted(worst, reverse=True)


def test_worst_error_may_rise_with_the_budget_otherwise():
    edges = [Edge(-1, 0, 4, HOLD, 0.1), Edge(-1, 0, 3, HOLD, 0.5), Edge(-1, 1, 4, HOLD, 0.5), Edge(-1, 0, 2, HOLD, 0.5)]
    paths = sweep(edges, 4)
    assert (paths[1].worst, paths[2].worst) == (0.1, 0.5)


def test_order_of_the_edges_does_not_matter():
    draw = random.Random(3)
    edges = random_edges(draw, 9, (LINEAR,), FEW, True)
    expected = sweep(edges, 9)
    for _ in range(5):
        draw.shuffle(edges)
        assert sweep(edges, 9) == expected


def test_of_equal_rules_the_first_is_taken():
    edges = [Edge(-1, 0, 3, HALF, 0.2), Edge(-1, 0, 3, HOLD, 0.2), Edge(-1, 0, 3, LINEAR, 0.3)]
    assert solve(edges, 3, 1).rules == (HALF,)
    assert solve(edges[1:], 3, 1).rules == (HOLD,)


def test_minimax_and_shortest_differ_as_they_should():
    errors = {(0, 2): 0.5, (2, 4): 0.5, (0, 3): 0.8, (1, 4): 0.9}
    edges = [Edge(-1, *segment, HOLD, error) for segment, error in errors.items()]
    assert solve(edges, 4, 2).computed == (0, 2)
    assert solve(edges, 4, 2, objective="shortest").computed == (0, 3)


def test_sums_are_exact():
    # As floats 0.1 + 0.2 is 0.30000000000000004; in truth it lies below that, and above 0.3.
    split = [Edge(-1, 0, 2, HOLD, 0.1), Edge(-1, 2, 4, HOLD, 0.2)]
    assert solve([*split, Edge(-1, 0, 3, HOLD, 0.1 + 0.2)], 4, 2, objective="shortest").computed == (0, 2)
    assert solve([*split, Edge(-1, 1, 4, HOLD, 0.3)], 4, 2, objective="shortest").computed == (0, 1)


def test_of_equal_sums_the_smallest_vector_is_taken():
    edges = [Edge(-1, 0, 2, HOLD, 0.5), Edge(-1, 2, 4, HOLD, 0.5), Edge(-1, 1, 4, HOLD, 1.0)]
    assert solve(edges, 4, 2, objective="shortest").computed == (0, 2)


def test_error_depends_on_the_step_before():
    edges = [Edge(0, 1, 4, LINEAR, 0.9), Edge(0, 2, 4, LINEAR, 0.1), Edge(1, 2, 4, LINEAR, 0.7)]
    edges += [Edge(-1, 0, 2, LINEAR, 0.3), Edge(-1, 0, 4, LINEAR, 2.0)]
    path = solve(edges, 4, 2)
    assert (path.computed, path.segment_errors) == ((0, 2), (0.3, 0.1))
    assert solve(edges, 4, 3).computed == (0, 2, 3)
    assert solve(edges, 4, 3, Constraints(first=2)).errors == (0.7, 0.0, 0.0)


def test_tail_off_computes_the_last_step():
    edges = [Edge(-1, 0, 3, HOLD, 0.1), Edge(-1, 1, 3, HOLD, 0.1), Edge(-1, 0, 2, HOLD, 0.4)]
    assert solve(edges, 3, 2).computed == (0, 1)
    assert solve(edges, 3, 2, Constraints(tail=False)).computed == (0, 2)


def test_infeasible_budget_names_the_nearest():
    edges = [Edge(-1, i, i + 2, HOLD, 0.1) for i in range(9)]
    with pytest.raises(InfeasibleError, match="exactly 3 of 10 steps: the nearest budget is 5"):
        solve(edges, 10, 3)
    with pytest.raises(InfeasibleError, match="nearest budgets are 1 and 4") as caught:
        solve([Edge(-1, 0, 4, HOLD, 0.1)], 4, 2)
    assert caught.value.nearest == (1, 4)


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (Edge(-1, 0, 5, HOLD, 0.1), "no segment of 4 steps"),
        (Edge(-1, 1, 2, HOLD, 0.0), "no segment"),
        (Edge(-1, -1, 2, HOLD, 0.1), "no segment"),
        (Edge(0, 0, 2, HOLD, 0.1), "no segment"),
        (Edge(-2, 1, 3, HOLD, 0.1), "no segment"),
        (Edge(2, 1, 3, HOLD, 0.1), "no segment"),
        (Edge(-1, 0, 2, HOLD, -0.1), "error of segment"),
        (Edge(-1, 0, 2, HOLD, math.nan), "error of segment"),
        (Edge(-1, 0, 2, HOLD, math.inf), "error of segment"),
    ],
)
def test_bad_edges_are_refused(edge, message):
    with pytest.raises(SolverError, match=message):
        sweep([edge], 4)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(first=0), "first is 0"),
        (Constraints(first=5), "first is 5"),
        (Constraints(fixed=(4,)), "no step 4"),
        (Constraints(reused=(-1,)), "no step -1"),
        (Constraints(reused=(0,)), "Step 0 has to be computed"),
        (Constraints(reused=(3,), tail=False), "Step 3 has to be computed"),
        (Constraints(reused=(2,), fixed=(2,)), "Step 2 has to be computed"),
        (Constraints(forbidden=((2, 5),)), "no segment to forbid"),
        (Constraints(forbidden=((2, 2),)), "no segment to forbid"),
    ],
)
def test_bad_constraints_are_refused(constraints, message):
    with pytest.raises(SolverError, match=message):
        sweep([], 4, constraints)


def test_bad_steps_budgets_and_objectives_are_refused():
    for steps in (0, True, 2.0, 10_001):
        with pytest.raises(SolverError, match="steps is"):
            sweep([], steps)
    for budget in (0, 5, 2.0, True):
        with pytest.raises(SolverError, match="The budget is"):
            solve([], 4, budget)
    with pytest.raises(SolverError, match="objective"):
        sweep([], 4, objective="longest")


def test_one_step_and_no_edges():
    assert solve([], 1, 1) == Path(1, (0,), (None,), (0.0,))
    assert list(sweep([], 5)) == [5]


def test_path_becomes_a_predicted_schedule():
    path = Path(8, (0, 1, 3, 4, 6, 7), (None, HOLD, None, LINEAR, None, None), (0.0, 0.2, 0.0, 0.5, 0.0, 0.0))
    sigmas = nominal_sigmas(3.0, 8)
    schedule = path.to_schedule("demo/b6", "demo", sigmas, {"file": "demo.safetensors"})
    assert schedule.rules == (HOLD, HOLD, LINEAR, LINEAR, LINEAR, LINEAR)
    assert (schedule.computed, schedule.steps, schedule.sigmas) == (path.computed, 8, sigmas)
    assert (schedule.origin, schedule.family) == ("predicted", "demo")
    assert schedule.source == {"file": "demo.safetensors", "predicted": {"worst": 0.5, "total": 0.7}}
    assert schedule.segments() == path.segments()
    assert solve([], 3, 3).to_schedule("demo/b3", "demo").rules == (HOLD, HOLD, HOLD)


def test_examples_in_the_docstrings():
    assert doctest.testmod(lemica.calibration.solver) == (0, 6)
