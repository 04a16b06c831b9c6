"""The camera's paths: what each move does, and what none may do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wiro_async.sandbox._camera import MAX_MOVES, MIN_WINDOW, Camera, Window, ease, parse_moves

MOVES = [
    "Truck left",
    "Truck right",
    "Pan left",
    "Pan right",
    "Push in",
    "Pull out",
    "Pedestal up",
    "Pedestal down",
    "Tilt up",
    "Tilt down",
    "Zoom in",
    "Zoom out",
    "Shake",
    "Tracking shot",
    "Static shot",
]
brackets = st.lists(st.lists(st.sampled_from(MOVES), min_size=1, max_size=4), max_size=4)
prompts = brackets.map(lambda groups: " then ".join(f"[{', '.join(group)}]" for group in groups))
lengths = st.floats(min_value=0.25, max_value=12.0)
seeds = st.integers(min_value=0, max_value=2**32)
progress = st.floats(min_value=0.0, max_value=1.0)


def centre(window: Window) -> tuple[float, float]:
    return window.left + window.width / 2, window.top + window.height / 2


def ends(prompt: str) -> tuple[Window, Window]:
    camera = Camera.from_prompt(prompt)
    return camera.window(0.0), camera.window(6.0)


def test_each_documented_move_is_known() -> None:
    """Every move that the model documents is recognised."""
    for move in MOVES:
        assert parse_moves(f"She turns. [{move}] Slowly.") == [[move.lower()]]


def test_case_and_spaces_do_not_matter() -> None:
    """Moves are read in any case, with any spacing."""
    assert parse_moves("[ PAN   left ,zoom IN]") == [["pan left", "zoom in"]]


def test_unknown_brackets_are_ignored() -> None:
    """Brackets that are no moves, among them the sandbox's directives, are plain text."""
    assert parse_moves("[sandbox: fail=0.5] [dance] [] [Pan left, pirouette] ] [") == [["pan left"]]


def test_three_moves_are_honoured() -> None:
    """The fourth move and what follows it are dropped, in the order of the prompt."""
    assert parse_moves("[Pan left, Zoom in] [Shake, Tilt up] [Pull out]") == [
        ["pan left", "zoom in"],
        ["shake"],
    ]
    assert MAX_MOVES == 3


def test_easing_is_smoothstep() -> None:
    """The easing runs from 0 to 1, is symmetrical, starts at rest, and clamps what lies outside."""
    assert [ease(p) for p in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert ease(0.25) == 1 - ease(0.75) == 0.15625
    assert ease(0.001) < 0.001 / 100


@pytest.mark.parametrize(
    ("move", "x", "y"),
    [
        ("Truck left", -1, 0),
        ("Truck right", 1, 0),
        ("Pan left", -1, 0),
        ("Pan right", 1, 0),
        ("Pedestal up", 0, -1),
        ("Pedestal down", 0, 1),
        ("Tilt up", 0, -1),
        ("Tilt down", 0, 1),
        ("Tracking shot", 1, 0),
    ],
)
def test_window_travels_where_the_camera_looks(move: str, x: int, y: int) -> None:
    """A move to a side takes the window a good way to that side, and nowhere else."""
    first, last = ends(f"[{move}]")
    for was, now, way in zip(centre(first), centre(last), (x, y), strict=True):
        if way:
            assert (now - was) * way > 0.15
        else:
            assert now == pytest.approx(was)


@pytest.mark.parametrize(("inward", "outward"), [("Zoom in", "Zoom out"), ("Push in", "Pull out")])
def test_zoom_changes_the_size_about_the_middle(inward: str, outward: str) -> None:
    """Moves inward end on a smaller window, about the image's middle; moves outward are their mirror."""
    first, last = ends(f"[{inward}]")
    assert first == Window(0.0, 0.0, 1.0, 1.0)
    assert last.width < 0.8
    assert centre(last) == pytest.approx((0.5, 0.5))
    opposite = ends(f"[{outward}]")
    assert opposite[0] == pytest.approx(last)
    assert opposite[1] == pytest.approx(first)


def test_static_shot_shows_the_whole_image_all_the_time() -> None:
    """The static shot neither moves nor crops."""
    camera = Camera.from_prompt("[Static shot]")
    assert {camera.window(at) for at in (0.0, 2.5, 6.0)} == {Window(0.0, 0.0, 1.0, 1.0)}


def test_shake_trembles_and_returns() -> None:
    """A shake moves on both axes, keeps the size, and ends where it began."""
    camera = Camera.from_prompt("[Shake]")
    windows = [camera.window(at / 24) for at in range(145)]
    assert windows[0] == pytest.approx(windows[-1])
    assert len({window.width for window in windows}) == 1
    for axis in (0, 1):
        steps = [b[axis] - a[axis] for a, b in pairwise(windows)]
        assert sum(a * b < 0 for a, b in pairwise(steps)) > 15


def test_moves_of_one_bracket_play_at_once() -> None:
    """Half-way through, both moves of a bracket are half-way."""
    camera = Camera.from_prompt("[Pan left, Zoom in]")
    first, middle, last = (camera.window(at) for at in (0.0, 3.0, 6.0))
    assert centre(middle)[0] == pytest.approx((centre(first)[0] + centre(last)[0]) / 2)
    assert middle.width == pytest.approx(math.sqrt(first.width * last.width))


def test_brackets_play_in_order() -> None:
    """The second bracket starts when the first has ended, and each gets an equal share of the time."""
    camera = Camera.from_prompt("[Pan left] [Zoom in] [Tilt down]")
    windows = [camera.window(at) for at in (0.0, 2.0, 4.0, 6.0)]
    across = [centre(window)[0] for window in windows]
    down = [centre(window)[1] for window in windows]
    sizes = [window.width for window in windows]
    assert across[0] - across[1] > 0.15
    assert across[1:] == pytest.approx([across[1]] * 3)
    assert sizes[1] - sizes[2] > 0.15
    assert sizes[0] == pytest.approx(sizes[1])
    assert sizes[2] == pytest.approx(sizes[3])
    assert down[3] - down[2] > 0.1
    assert down[0] == pytest.approx(down[2])


def test_default_move_is_a_gentle_push_whose_drift_depends_on_the_seed() -> None:
    """Without a move the camera pushes in a little; the seed changes the direction alone."""
    paths = [Camera.from_prompt("a portrait", seed=seed) for seed in (0, 1)]
    first, other = ([camera.window(at) for at in (0.0, 6.0)] for camera in paths)
    assert first[0].width > 0.9
    assert 0.75 < first[1].width / first[0].width < 0.9
    assert centre(first[1]) != pytest.approx(centre(other[1]))
    assert Camera.from_prompt("a portrait", seed=1) == paths[1]


def test_times_outside_the_path_show_its_ends() -> None:
    """Before the beginning the camera rests on the first window, after the end on the last."""
    camera = Camera.from_prompt("[Zoom in]", seconds=2.0)
    assert camera.window(-1.0) == camera.window(0.0)
    assert camera.window(9.0) == camera.window(2.0)


@given(prompts, lengths, seeds, progress)
@example("[Zoom in] [Push in] [Zoom in]", 6.0, 0, 1.0)
@example("[Truck left, Truck left, Truck left]", 6.0, 0, 1.0)
def test_windows_stay_inside_the_image(prompt: str, seconds: float, seed: int, part: float) -> None:
    """Whatever the prompt, the window lies inside the image, keeps its aspect, and is not too small."""
    camera = Camera.from_prompt(prompt, seconds=seconds, seed=seed)
    left, top, width, height = camera.window(part * seconds)
    assert left >= 0
    assert top >= 0
    assert left + width <= 1
    assert top + height <= 1
    assert width == height
    assert MIN_WINDOW - 1e-9 <= camera.narrowest <= width * (1 + 1e-9)


@given(prompts, lengths, seeds, progress)
def test_windows_never_jump(prompt: str, seconds: float, seed: int, part: float) -> None:
    """Within a ten-thousandth of the clip no edge moves farther than the fastest move could take it."""
    camera = Camera.from_prompt(prompt, seconds=seconds, seed=seed)
    moment = seconds / 10_000
    before, after = camera.window(part * seconds), camera.window(part * seconds + moment)
    # Smoothstep is never faster than 1.5 times the average, a third of the clip crosses at most the image,
    # and a shake adds its own steepest slope.
    fastest = 1.5 * 3 / seconds * 1.5 + 0.3
    assert max(abs(b - a) for a, b in zip(before, after, strict=True)) <= fastest * moment


@given(prompts, lengths, seeds)
def test_path_is_framed_as_widely_as_it_fits(prompt: str, seconds: float, seed: int) -> None:
    """Somewhere along the path the window touches the image's edge, or all but a shake's margin of it."""
    camera = Camera.from_prompt(prompt, seconds=seconds, seed=seed)
    stops = [camera.window(seconds * stop / len(camera.shakes)) for stop in range(len(camera.poses))]
    gap = min(min(w.left, w.top, 1 - w.left - w.width, 1 - w.top - w.height) for w in stops)
    assert gap <= 0.0121
