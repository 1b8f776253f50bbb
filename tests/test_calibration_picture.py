"""The pictures of error graphs and of budgets: what stands where, in which colour, and that every graph has one."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import draw as drawing
from lemica.calibration.draw import GROUND, INK, LEFT, RULE_COLOURS, WHITE, LogScale, number, tick_gap
from lemica.calibration.graph import ErrorGraph
from lemica.calibration.picture import best_errors, budget_curve, combined, heat_map, map_layout
from lemica.calibration.sample import Sample
from lemica.calibration.segments import GraphError, all_segments
from lemica.calibration.solver import Path, sweep
from lemica.schedules import ModelIdentity, Rule, nominal_sigmas
from PIL import ImageChops

HOLD, LINEAR, RESIDUAL = Rule("output", "hold"), Rule("output", "linear"), Rule("residual", "hold")
NAN = math.nan


def make(steps=12, longest=5, rules=(HOLD,), errors=None, samples=1, segments=None, family="demo"):
    segments = all_segments(steps, longest, rules) if segments is None else segments
    if errors is None:
        errors = np.geomspace(1e-3, 1, max(len(segments), 1))[: len(segments)]
    return ErrorGraph(
        family=family,
        model=ModelIdentity("WAN21", "WanModel", {}, "tiny.safetensors"),
        sigmas=nominal_sigmas(3.0, steps),
        mode="exact",
        metric="l1",
        rules=rules,
        samples=[Sample("a cat", seed) for seed in range(samples)],
        segments=segments,
        errors=np.broadcast_to(errors, (samples, len(segments))).astype(np.float64),
    )


def colours(picture, box):
    """The colours in a box that includes its right and bottom ends."""
    left, top, right, bottom = box
    return [colour for _, colour in picture.crop((left, top, right + 1, bottom + 1)).getcolors(100_000)]


def centre(picture, box):
    return picture.getpixel(((box[0] + box[2]) // 2, (box[1] + box[3]) // 2))


def clean_edges(picture):
    """Whether the outermost five pixels are empty on all sides, so that nothing runs out of the picture."""
    pixels = np.asarray(picture)
    edges = (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:])
    return all((edge == GROUND).all() for edge in edges)


@st.composite
def graphs(draw):
    steps = draw(st.integers(1, 14))
    rules = tuple(draw(st.permutations([HOLD, LINEAR, RESIDUAL])))[: draw(st.integers(1, 3))]
    segments = all_segments(steps, draw(st.integers(1, 14)), rules)
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["spread", "equal", "zero", "some zero", "extreme"]))
    shape = (draw(st.integers(1, 2)), len(segments))
    errors = {
        "spread": numbers.lognormal(-3, 2, shape),
        "equal": np.full(shape, 0.1),
        "zero": np.zeros(shape),
        "some zero": numbers.choice([0.0, 0.25, 0.7], shape),
        "extreme": numbers.choice([5e-324, 1e-300, 1.0, 1e300], shape),
    }[kind]
    errors[:, numbers.random(len(segments)) < draw(st.sampled_from([0, 0.3, 1]))] = NAN
    return make(steps, rules=rules, segments=segments, errors=errors, samples=shape[0])


@settings(deadline=None, max_examples=40)
@given(graphs(), st.data())
def test_every_graph_has_a_picture_and_always_the_same(graph, data):
    paths = sweep(graph.edges(), graph.steps)
    shortest = sweep(graph.edges(), graph.steps, objective="shortest")
    chosen = [paths[budget] for budget in data.draw(st.lists(st.sampled_from(sorted(paths)), max_size=4))]
    sweeps = data.draw(st.sampled_from([{}, {"none": {}}, {"one": paths}, {"one": paths, "other": shortest}]))
    measured = data.draw(st.dictionaries(st.integers(1, graph.steps), st.sampled_from([0.0, 0.2, NAN, math.inf])))
    highlight = data.draw(st.integers(0, max(len(chosen) - 1, 0)))
    picture = combined(graph, chosen, sweeps, measured, data.draw(st.sampled_from([0.0, 0.03, 1.0])), highlight)
    assert picture.mode == "RGB" and picture.width == 1240
    assert clean_edges(picture)
    layout = map_layout(graph, chosen, highlight)
    assert 0 < layout.bottom < picture.height and layout.right <= picture.width - 150
    first = heat_map(graph, chosen, highlight)
    assert first.tobytes() == heat_map(graph, chosen, highlight).tobytes()
    assert picture.crop((0, 0, *first.size)).tobytes() == first.tobytes()


@pytest.mark.parametrize("steps", [2, 5, 30, 73, 100, 200])
def test_pictures_fit_any_number_of_steps(steps):
    graph = make(steps, longest=min(steps, 40), rules=(HOLD, RESIDUAL), family="W" * 120)
    paths = sweep(graph.edges(), steps)
    chosen = [paths[min(paths)], paths[steps // 2]]
    picture = combined(graph, chosen, {"W" * 90: paths, "V" * 90: paths, "M" * 90: paths, "more": paths}, {steps: 0.5})
    assert picture.width == 1240 and picture.height < 1700
    assert clean_edges(picture)


def test_very_many_steps_make_a_wider_picture():
    picture = heat_map(make(1200, longest=3), [])
    assert picture.width == 1200 + 240
    assert clean_edges(picture)


def test_only_the_cell_whose_error_changes_gets_another_colour():
    graph = make()
    place = graph.segments.tolist().index([-1, 4, 7, 0])
    errors = graph.errors[0].copy()
    errors[place] = 0.5
    before, after = heat_map(graph, []), heat_map(make(errors=errors), [])
    box = map_layout(graph, []).cell_box(4, 3)
    assert ImageChops.difference(before, after).getbbox() == (box[0], box[1], box[2] + 1, box[3] + 1)
    assert len(colours(after, box)) == 1


def test_larger_errors_are_brighter():
    graph = make(errors=np.random.default_rng(1).lognormal(size=len(all_segments(12, 5, (HOLD,)))))
    picture, layout = heat_map(graph, []), map_layout(graph, [])
    order = np.argsort(graph.mean())
    cells = [layout.cell_box(i, j - i) for _, i, j, _ in graph.segments[order].tolist()]
    brightness = [float(np.dot(centre(picture, cell), (0.2126, 0.7152, 0.0722))) for cell in cells]
    assert all(high > low - 1 for low, high in pairwise(brightness)) and brightness[-1] > brightness[0] + 150
    assert centre(picture, cells[0]) == (68, 1, 84) and centre(picture, cells[-1]) == (253, 231, 37)


def test_cells_show_the_best_rule_and_step_before():
    segments = np.array([(-1, 0, 2, 0), (0, 2, 4, 1), (1, 2, 4, 1), (-1, 2, 4, 0), (-1, 1, 4, 0)])
    graph = make(4, rules=(HOLD, LINEAR), segments=segments, errors=np.array([0.5, 0.3, 0.1, 0.2, NAN]))
    np.testing.assert_array_equal(best_errors(graph), [[0.5, NAN, 0.1, NAN], [NAN] * 4])
    assert best_errors(graph, longest=4).shape == (3, 4)
    picture, layout = heat_map(graph, []), map_layout(graph, [])
    assert centre(picture, layout.cell_box(2, 2)) == (68, 1, 84)
    assert centre(picture, layout.cell_box(0, 2)) == (253, 231, 37)


def test_unmeasured_cells_are_hatched_and_those_beyond_the_sink_empty():
    errors = make().errors[0].copy()
    errors[3] = NAN
    graph = make(errors=errors)
    picture, layout = heat_map(graph, []), map_layout(graph, [])
    _, start, end, _ = graph.segments[3].tolist()
    hatched = colours(picture, layout.cell_box(start, end - start))
    assert len(hatched) == 2 and all(max(colour) - min(colour) < 10 for colour in hatched)
    assert colours(picture, layout.cell_box(11, 2)) == [GROUND]
    assert colours(picture, layout.cell_box(10, 2)) != [GROUND]


def test_zero_is_the_darkest_and_equal_errors_have_one_colour():
    count = len(all_segments(12, 5, (HOLD,)))
    errors = np.geomspace(1e-3, 1, count)
    errors[0] = 0
    graph = make(errors=errors)
    assert centre(heat_map(graph, []), map_layout(graph, []).cell_box(0, 2)) == (68, 1, 84)
    for value in (0.0, 0.3):
        graph = make(errors=np.full(count, value))
        picture, layout = heat_map(graph, []), map_layout(graph, [])
        cells = {centre(picture, layout.cell_box(i, j - i)) for _, i, j, _ in graph.segments.tolist()}
        assert len(cells) == 1


def test_every_path_has_a_strip_of_its_steps():
    graph = make(12, longest=5, rules=(HOLD, RESIDUAL))
    paths = [
        Path(12, (0, 1, 4, 9), (None, HOLD, RESIDUAL, HOLD), (0.0, 0.1, 0.2, 0.3)),
        Path(12, (0, 5, 10), (RESIDUAL, RESIDUAL, HOLD), (0.5, 0.6, 0.2)),
    ]
    picture, layout = heat_map(graph, paths), map_layout(graph, paths)
    for place, path in enumerate(paths):
        shown = [centre(picture, layout.strip_box(place, step)) for step in range(12)]
        expected = [WHITE] * 12
        for step, rule in zip(path.computed, path.rules, strict=True):
            expected[step] = RULE_COLOURS[rule]
        assert shown == expected
    box = layout.strip_box(0, 6)
    assert picture.getpixel(box[:2]) == RULE_COLOURS[RESIDUAL]  # the outline of a reused step
    heights = [heat_map(graph, paths[:1] * count).height for count in range(1, 4)]
    assert heights[2] - heights[1] == heights[1] - heights[0] == layout.strip_box(1, 0)[1] - layout.strip_box(0, 0)[1]


@pytest.mark.parametrize("steps", [12, 100])
def test_segments_of_the_highlighted_path_are_outlined(steps):
    graph = make(steps, longest=5)
    computed = [[step for step in range(steps) if not start < step < end] for start, end in ((0, 3), (5, 9))]
    paths = [
        Path(steps, tuple(places), (HOLD,) * len(places), (0.1,) * len(places)) for places in computed
    ]
    layout = map_layout(graph, paths)
    cells = layout.cell_box(0, 3), layout.cell_box(5, 4)
    for highlight, (outlined, other) in enumerate((cells, cells[::-1])):
        picture = heat_map(graph, paths, highlight)
        assert {INK, WHITE} <= set(colours(picture, tuple(np.add(outlined, (-2, -2, 2, 2)))))
        assert len(colours(picture, other)) == 1


def test_a_highlighted_path_may_have_segments_longer_than_the_graph():
    graph = make(12, longest=3)
    path = Path(12, (0, 1), (None, HOLD), (0.0, 0.1))
    layout = map_layout(graph, [path])
    assert layout.longest == 11
    assert INK in colours(heat_map(graph, [path]), tuple(np.add(layout.cell_box(1, 11), (-2, -2, 2, 2))))


def test_what_does_not_go_together_is_refused():
    graph = make()
    paths = sweep(graph.edges(), 12)
    with pytest.raises(GraphError, match="A path of 12 steps is none of this error graph of 10 steps"):
        heat_map(make(10), [paths[6]])
    with pytest.raises(GraphError, match="no path 1 to highlight"):
        heat_map(graph, [paths[6]], highlight=1)
    with pytest.raises(GraphError, match="computes 6 of 12 steps for budget 6 of 10"):
        budget_curve({"minimax": {6: paths[6]}}, 10)
    with pytest.raises(GraphError, match="for budget 5 of 12"):
        budget_curve({"minimax": {5: paths[6]}}, 12)
    with pytest.raises(GraphError, match="Budget 13 of 12 steps"):
        budget_curve({}, 12, {13: 0.1})
    with pytest.raises(GraphError, match="measured error -0.1"):
        budget_curve({}, 12, {3: -0.1})
    with pytest.raises(GraphError, match="costs 1.5 computed ones"):
        budget_curve({}, 12, reused_cost=1.5)


def dots(picture):
    """The middle of the black pixels in the upper panel, from the left and the top."""
    pixels = np.asarray(picture)[130:420, LEFT + 2 : 1195]
    return tuple(places.mean() for places in np.nonzero((pixels == INK).all(-1))[::-1])


def test_measured_errors_stand_at_their_budget_and_height():
    paths = sweep(make().edges(), 12)
    sweeps = {"minimax": paths}
    spots = [dots(budget_curve(sweeps, 12, {6: error})) for error in (0.1, 0.01, 0.0)]
    assert spots[0][1] < spots[1][1] - 20 < spots[2][1] - 40
    assert {round(x) for x, _ in spots} == {round(spots[0][0])}
    assert dots(budget_curve(sweeps, 12, {9: 0.1}))[0] > spots[0][0] + 100
    assert budget_curve(sweeps, 12, {6: NAN}).tobytes() == budget_curve(sweeps, 12).tobytes()


def test_every_sweep_has_a_line_and_the_cost_moves_the_speed_up_alone():
    graph = make(errors=np.random.default_rng(3).lognormal(size=len(all_segments(12, 5, (HOLD,)))))
    paths = sweep(graph.edges(), 12)
    shortest = sweep(graph.edges(), 12, objective="shortest")
    one, two = budget_curve({"minimax": paths}, 12), budget_curve({"minimax": paths, "shortest": shortest}, 12)
    assert one.size == two.size
    plot = (LEFT + 2, 140, 1190, 400)
    vermillion = (213, 94, 0)
    assert vermillion in colours(two, plot) and vermillion not in colours(one, plot)
    dearer = budget_curve({"minimax": paths}, 12, reused_cost=0.2)
    changed = ImageChops.difference(one, dearer)
    assert changed.crop((0, 70, 1240, 420)).getbbox() is None
    assert changed.crop((0, 420, 1240, one.height)).getbbox()


def test_a_budget_curve_of_one_budget_and_of_none():
    path = Path(12, (0, 6), (HOLD, HOLD), (0.1, 0.2))
    empty, single = budget_curve({"minimax": {}}, 12), budget_curve({"minimax": {2: path}}, 12)
    assert empty.size == single.size
    assert (0, 114, 178) in colours(single, (LEFT + 2, 140, 1190, 400))
    assert (0, 114, 178) not in colours(empty, (LEFT + 2, 140, 1190, 400))


@given(
    st.lists(st.floats(0) | st.floats(1, 2) | st.floats(9, 90) | st.floats(1e-9, 1e-3) | st.just(NAN), max_size=5),
    st.floats(0.06, 0.2),
)
def test_scales_have_round_numbers_that_keep_apart(values, room):
    scale = LogScale.of(values)
    ticks = scale.ticks(room)
    assert 0 < scale.low < scale.high < math.inf
    assert scale.low <= ticks[0] and ticks[-1] <= scale.high
    assert all(high - low >= room for low, high in pairwise(map(scale.at, ticks)))
    assert len({number(tick) for tick in ticks}) == len(ticks)
    assert [scale.at(0.0), scale.at(scale.high), scale.at(math.inf)] == pytest.approx([0, 1, 1])


def test_labels_keep_apart():
    assert [tick_gap(*case) for case in ((30, 33), (100, 10), (200, 5), (30, 33, 100))] == [1, 5, 10, 5]
    words = ["minimax"] * 40
    spots, bottom = drawing.flow(words, 90, 60, 1200, 22)
    wide = 30 + drawing.font(15).getlength("minimax")
    assert all(x + wide <= 1200 for x, _ in spots) and bottom == spots[-1][1] + 12
    assert all(after[1] > before[1] or after[0] - before[0] > wide for before, after in pairwise(spots))
    cut = drawing.fitted("W" * 120, 22, 300)
    assert cut.endswith("…") and drawing.font(22).getlength(cut) <= 300 and drawing.fitted("wan21", 22, 300) == "wan21"
