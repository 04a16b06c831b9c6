"""Turn a prompt's bracketed camera moves into a crop window over time. Pure: no image, no clock.

The moves are the documented ones of the Director model. Moves inside one bracket play at once, brackets
play in the order of the prompt, each for an equal share of the clip::

    camera = Camera.from_prompt("[Pan left, Zoom in] She turns. [Pedestal up]", seconds=6.0)
    camera.window(0.0)  # Window(left=..., top=..., width=..., height=...), fractions of the image
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple, Self

import attrs

__all__ = ["MAX_MOVES", "MIN_WINDOW", "Camera", "Window", "ease", "parse_moves"]

MAX_MOVES: Final = 3
"""How many moves of a prompt are honoured; the Director model takes no more."""

MIN_WINDOW: Final = 0.45
"""No window is narrower than this fraction of the image, lest the crop be blown up to a blur."""

_SHAKE: Final = 0.012  # amplitude of [Shake] on each axis, in fractions of the image
_SHAKE_RAMP: Final = 0.4  # seconds in which a shake swells and fades
_DEFAULT_DRIFT: Final = 0.025  # how far the camera wanders when the prompt names no move
_GOLDEN_ANGLE: Final = math.pi * (3 - math.sqrt(5))  # spreads consecutive seeds evenly over the circle


class Window(NamedTuple):
    """A crop window, in fractions of the image's width and height."""

    left: float
    top: float
    width: float
    height: float


class _Shift(NamedTuple):
    """What one move changes: the window's centre (fractions of the image) and its size (natural log)."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 0.0
    shakes: bool = False


_MOVES: Final[dict[str, _Shift]] = {
    "truck left": _Shift(x=-0.28),
    "truck right": _Shift(x=0.28),
    "pan left": _Shift(x=-0.22),
    "pan right": _Shift(x=0.22),
    "push in": _Shift(zoom=math.log(0.72)),
    "pull out": _Shift(zoom=-math.log(0.72)),
    "pedestal up": _Shift(y=-0.26),
    "pedestal down": _Shift(y=0.26),
    "tilt up": _Shift(y=-0.2),
    "tilt down": _Shift(y=0.2),
    "zoom in": _Shift(zoom=math.log(0.64)),
    "zoom out": _Shift(zoom=-math.log(0.64)),
    "shake": _Shift(shakes=True),
    "tracking shot": _Shift(x=0.2, zoom=math.log(0.88)),
    "static shot": _Shift(),
}


def parse_moves(prompt: str) -> list[list[str]]:
    """Find the camera moves of a prompt.

    Args:
        prompt: Free text with moves in square brackets, in any case: ``[Pan left, Zoom in]``.

    Returns:
        One list of lower-case move names per bracket, in order, with at most ``MAX_MOVES`` names in all.
        Unknown names, and brackets without a known one, are left out.
    """
    groups: list[list[str]] = []
    left = MAX_MOVES
    for bracket in re.findall(r"\[([^\[\]]*)\]", prompt):
        names = [" ".join(name.split()).lower() for name in bracket.split(",")]
        known = [name for name in names if name in _MOVES][:left]
        if known:
            groups.append(known)
            left -= len(known)
    return groups


def ease(progress: float) -> float:
    """Smoothstep, ``3p² - 2p³``: starts and stops with zero speed.

    Args:
        progress: How much of a move's time has passed; values outside 0 to 1 are clamped.

    Returns:
        How much of the move is done, 0 to 1.
    """
    p = min(max(progress, 0.0), 1.0)
    return p * p * (3.0 - 2.0 * p)


@attrs.frozen
class Camera:
    """A camera's path over one image.

    Attributes:
        poses: The path's corner points, one more than there are shifts to play.
        shakes: For each stretch between two poses, whether the camera shakes.
        seconds: How long the whole path lasts.
    """

    poses: tuple[_Shift, ...]
    shakes: tuple[bool, ...]
    seconds: float

    @classmethod
    def from_prompt(cls, prompt: str, *, seconds: float = 6.0, seed: int = 0) -> Self:
        """Plan the path that a prompt asks for.

        Args:
            prompt: The prompt with its bracketed moves. Without any, the camera pushes in gently.
            seconds: How long the path lasts.
            seed: Chooses the direction in which the default move drifts.

        Returns:
            The camera, framed as widely as its path allows.
        """
        groups = parse_moves(prompt)
        shifts = [_combined([_MOVES[name] for name in names]) for names in groups] or [_default_shift(seed)]
        strength = 1.0
        while min(pose.zoom for pose in _poses(shifts, strength)) < math.log(MIN_WINDOW):
            strength *= 0.97
        shakes = tuple(shift.shakes for shift in shifts)
        return cls(poses=_poses(shifts, strength), shakes=shakes, seconds=seconds)

    @property
    def narrowest(self) -> float:
        """The width of the smallest window on the path, as a fraction of the image's."""
        return math.exp(min(pose.zoom for pose in self.poses))

    def window(self, at: float) -> Window:
        """Find what the camera sees.

        Args:
            at: Seconds since the beginning; times outside the path show its ends.

        Returns:
            A window that lies inside the image, has its aspect, and moves continuously with time.
        """
        share = self.seconds / len(self.shakes)
        at = min(max(at, 0.0), self.seconds)
        stretch = min(int(at / share), len(self.shakes) - 1)
        since = at - stretch * share
        start, stop = self.poses[stretch : stretch + 2]
        done = ease(since / share)
        x = 0.5 + start.x + (stop.x - start.x) * done
        y = 0.5 + start.y + (stop.y - start.y) * done
        if self.shakes[stretch]:
            swell = ease(since / _SHAKE_RAMP) * ease((share - since) / _SHAKE_RAMP)
            x += swell * _wobble(since, 1.9, 3.1)
            y += swell * _wobble(since, 2.3, 3.7)
        size = math.exp(start.zoom + (stop.zoom - start.zoom) * done)
        return Window(_clamped(x - size / 2, size), _clamped(y - size / 2, size), size, size)


def _combined(shifts: list[_Shift]) -> _Shift:
    x, y, zoom, shakes = zip(*shifts, strict=True)
    return _Shift(sum(x), sum(y), sum(zoom), any(shakes))


def _default_shift(seed: int) -> _Shift:
    angle = seed * _GOLDEN_ANGLE
    return _Shift(_DEFAULT_DRIFT * math.cos(angle), _DEFAULT_DRIFT * math.sin(angle), math.log(0.84))


def _poses(shifts: list[_Shift], strength: float) -> tuple[_Shift, ...]:
    """Chain the shifts into a path, centre it on the image, and frame it as widely as it fits.

    Between two poses the centre moves straight and the size, an exponential, stays below its chord: so
    ``|centre| + size / 2`` is largest at a pose, and a path whose poses fit inside the image fits altogether.
    """
    path = [_Shift()]
    for shift in shifts:
        x, y, zoom, _ = path[-1]
        path.append(_Shift(x + shift.x * strength, y + shift.y * strength, zoom + shift.zoom * strength))
    xs, ys = [pose.x for pose in path], [pose.y for pose in path]
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    margin = _SHAKE if any(shift.shakes for shift in shifts) else 0.0
    widest = min(
        math.log(1 - 2 * (max(abs(x - middle_x), abs(y - middle_y)) + margin)) - zoom
        for x, y, zoom, _ in path
    )
    return tuple(_Shift(x - middle_x, y - middle_y, zoom + widest) for x, y, zoom, _ in path)


def _wobble(at: float, slow: float, fast: float) -> float:
    """Two sines, in Hz, that stay within the shake's amplitude and do not repeat within a clip."""
    return _SHAKE * (0.65 * math.sin(math.tau * slow * at) + 0.35 * math.sin(math.tau * fast * at))


def _clamped(start: float, size: float) -> float:
    """Undo rounding: a window that overlaps the edge by 1e-17 is refused by image libraries."""
    return min(max(start, 0.0), 1.0 - size)
