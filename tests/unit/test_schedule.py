"""Strength as a curve: its text, its shape, and the well-known extension's window."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_prism.errors import OutOfRange, PrismError
from sd_prism.schedule import ALWAYS, HIGH, LOW, Curve

points = st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(LOW, HIGH, width=32)), min_size=1, max_size=8).map(
    lambda found: tuple(sorted(found, key=lambda point: point[0]))
)


@given(points)
def test_text_round_trip(found):
    curve = Curve(found)
    again = Curve.parse(str(curve))
    assert not set(str(curve)) & set(",:;\n")
    assert again == curve or curve.constant == again.constant is not None


@given(points, st.floats(0, 1))
def test_values_lie_between_the_points_around(found, at):
    curve = Curve(found)
    values = [value for _, value in found]
    assert min(values) - 1e-9 <= curve(at) <= max(values) + 1e-9


@given(points)
def test_a_point_is_on_the_curve_and_of_two_at_one_place_the_later(found):
    last = dict(found)
    assert all(Curve(found)(position) == pytest.approx(value) for position, value in last.items())


def test_lines_between_points_and_flat_beyond():
    curve = Curve.parse("0@0.2, 1@0.4, 0.5@1")
    at = {-1: 0, 0: 0, 0.2: 0, 0.3: 0.5, 0.4: 1, 0.7: 0.75, 1: 0.5, 2: 0.5, float("nan"): 0}
    assert {position: curve(position) for position in at} == pytest.approx(at, nan_ok=True)


@pytest.mark.parametrize("text", ["0@0,1@0.3,0@1", " 0@0  1@0.3 0@1 ", "0 @ 0, 1 @ 0.3 ,0@1", "0@0 1@.3 0@1.0"])
def test_commas_and_spaces_divide(text):
    assert str(Curve.parse(text)) == "0@0 1@0.3 0@1"


def test_a_lone_number_is_constant():
    assert Curve.parse("0.5")(0.9) == 0.5 == Curve.parse("0.5").constant
    assert ALWAYS.constant == 1 and str(ALWAYS) == "1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "needs a point"),
        ("fast", '"fast" of the curve'),
        ("1@x", '"x" of the curve'),
        ("nan", '"nan" of the curve'),
        ("1@0.5 0@0.2", "must rise, but 0.2 stands after 0.5"),
        ("1@2", "position is 2; it must lie between 0 and 1"),
        ("9@0", "value is 9; it must lie between 0 and 2"),
        ("1@0, 0.5", "says no position for 0.5"),
        ("1@@0", "no position for 1"),
    ],
)
def test_what_cannot_be_read_is_told(text, told):
    with pytest.raises(PrismError, match=told):
        Curve.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_curve_or_a_prism_error(text):
    with suppress(PrismError):
        Curve.parse(text)


def theirs(step: int, steps: int, start: float, stop: float, smoothness: float) -> float:
    """sd-webui-freeu's schedule as its knowledge tells it: a flat window blended with a triangle."""
    a, e = int(start * steps), int(stop * steps)
    flat = 1.0 if a <= step < e else 0.0
    if a == e:
        triangle = 0.0
    elif step < a:
        triangle = step / a
    else:
        triangle = min(1.0, max(0.0, 1 - (step - a) / (e - a)))
    return (1 - smoothness) * flat + smoothness * triangle


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0, 0.25, 1]))
def test_a_window_of_whole_steps_is_the_well_known_extensions(steps, one, other, smoothness):
    start, stop = (int(edge * steps) / steps for edge in sorted((one, other)))
    curve = Curve.window(start, stop, smoothness)
    for step in range(steps):
        expected = theirs(step, steps, start + 1e-9, stop + 1e-9, smoothness)
        assert curve(step / steps) == pytest.approx(expected, abs=1e-6)
    assert curve(1.0) == 0


def test_a_window_says_what_is_wrong():
    with pytest.raises(PrismError, match=r"starts at 0.8, after it stops at 0.2"):
        Curve.window(0.8, 0.2)
    with pytest.raises(OutOfRange, match="smoothness is 2"):
        Curve.window(0, 1, 2)
