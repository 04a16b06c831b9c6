"""Make the sandbox's three demo images: procedural pictures, painted with Pillow and a fixed seed.

Run from the root of the repository::

    python examples/make_images.py [FOLDER]

The pictures are small shaders: a ``Field`` is an image of floats with arithmetic, colours are triples of
fields in 0 to 1, and shapes are drawn three times too large and reduced, so that their edges are smooth.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFilter, ImageMath

Point: TypeAlias = tuple[float, float]
RGB: TypeAlias = tuple[float, float, float]


class Field:
    """A one-channel float image with arithmetic."""

    __slots__ = ("image",)

    def __init__(self, image: Image.Image) -> None:
        self.image: Image.Image = image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    def __add__(self, other: Field | float) -> Field:
        return _apply(lambda a, b: a + b, self, other)

    def __sub__(self, other: Field | float) -> Field:
        return _apply(lambda a, b: a - b, self, other)

    def __rsub__(self, other: float) -> Field:
        return _apply(lambda a, b: b - a, self, other)

    def __mul__(self, other: Field | float) -> Field:
        return _apply(lambda a, b: a * b, self, other)

    def __truediv__(self, other: Field | float) -> Field:
        return _apply(lambda a, b: a / b, self, other)

    def __pow__(self, power: float) -> Field:
        return _apply(lambda a, b: a**b, self, power)

    __radd__ = __add__
    __rmul__ = __mul__

    def clamp(self, low: float = 0.0, high: float = 1.0) -> Field:
        """Cut the values off at `low` and `high`."""
        limits = {"a": self.image, "low": low, "high": high}
        return Field(
            ImageMath.lambda_eval(lambda n: n["max"](n["min"](n["a"], n["high"]), n["low"]), **limits)
        )

    def exp(self) -> Field:
        """Raise e to each value."""
        return Field(ImageMath.lambda_eval(lambda n: math.e ** n["a"], a=self.image))

    def step(self, low: float, high: float) -> Field:
        """Rise smoothly from 0 at `low` to 1 at `high`, or fall where `high` is the lower one."""
        t = ((self - low) / (high - low)).clamp()
        return t * t * (3.0 - 2.0 * t)

    def blur(self, radius: float) -> Field:
        """Blur by a Gaussian; values outside 0 to 1 are cut off."""
        return field_of(self.to_mask().filter(ImageFilter.GaussianBlur(radius)))

    def shift(self, x: float, y: float) -> Field:
        """Move the contents by pixels; zeros come in at the edge."""
        moved = (1, 0, -x, 0, 1, -y)
        return Field(
            self.image.transform(self.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)
        )

    def to_mask(self) -> Image.Image:
        """Round to 8 bits, 0 to 1 becoming 0 to 255."""
        return (self * 255.0 + 0.5).clamp(0.0, 255.0).image.convert("L")


def _apply(operation: Callable[..., object], a: Field, b: Field | float) -> Field:
    other = b.image if isinstance(b, Field) else float(b)
    return Field(ImageMath.lambda_eval(lambda n: operation(n["a"], n["b"]), a=a.image, b=other))


Colour: TypeAlias = tuple[Field, Field, Field]


def field_of(mask: Image.Image) -> Field:
    """Read an 8-bit image as a field of 0 to 1."""
    return Field(mask.convert("F")) / 255.0


def dice(seed: int) -> random.Random:
    """Repeatable chance."""
    return random.Random(seed)  # noqa: S311 - for pictures, not for secrets


def ramp(size: tuple[int, int]) -> tuple[Field, Field]:
    """The pixels' coordinates: x in 0 to 1, and y in the same unit."""
    width, height = size
    across, down = Image.new("F", (width, 1)), Image.new("F", (1, height))
    across.putdata([(x + 0.5) / width for x in range(width)])
    down.putdata([(y + 0.5) / width for y in range(height)])
    return Field(across.resize(size)), Field(down.resize(size))


def noise(size: tuple[int, int], cells: tuple[int, int], seed: int, octaves: int = 5) -> Field:
    """Fractal value noise, about 0 to 1 and 0.5 on average."""
    total, weight, sums = Field(Image.new("F", size)), 1.0, 0.0
    for octave in range(octaves):
        grid = (min(cells[0] << octave, size[0]), min(cells[1] << octave, size[1]))
        values = Image.frombytes("L", grid, dice(seed * 31 + octave).randbytes(grid[0] * grid[1]))
        total = total + Field(values.convert("F").resize(size, Image.Resampling.BICUBIC)) * (weight / 255)
        sums += weight
        weight *= 0.5
    return total / sums


def mix(a: Colour, b: Colour, amount: Field) -> Colour:
    """Go from `a` to `b` as `amount` goes from 0 to 1."""
    red, green, blue = (p + (q - p) * amount for p, q in zip(a, b, strict=True))
    return red, green, blue


def flat(size: tuple[int, int], rgb: RGB) -> Colour:
    """One colour all over."""
    red, green, blue = (Field(Image.new("F", size, value)) for value in rgb)
    return red, green, blue


def tint(base: Colour, rgb: RGB, amount: Field) -> Colour:
    """Paint a colour over `base` where `amount` is 1."""
    return mix(base, flat(amount.size, rgb), amount)


def textured(base: Colour, texture: Field, mask: Field) -> Colour:
    """Multiply by a texture inside a mask."""
    red, green, blue = base
    return mix(base, (red * texture, green * texture, blue * texture), mask)


def lighten(base: Colour, rgb: RGB, amount: Field) -> Colour:
    """Add light of a colour."""
    red, green, blue = (channel + amount * value for channel, value in zip(base, rgb, strict=True))
    return red, green, blue


def gradient(at: Field, stops: Sequence[tuple[float, RGB]]) -> Colour:
    """Blend colours along a field; `stops` are (position, colour) in rising order."""
    red, green, blue = flat(at.size, stops[0][1])
    for (low, before), (high, after) in pairwise(stops):
        done = at.step(low, high)
        red, green, blue = (
            channel + done * (b - a) for channel, a, b in zip((red, green, blue), before, after, strict=True)
        )
    return red, green, blue


def drawn(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, float], None], scale: int = 3) -> Field:
    """Draw shapes in white on black at `scale` times the size, and reduce."""
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    draw(ImageDraw.Draw(canvas), float(scale))
    return field_of(canvas.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def finished(colour: Colour, seed: int, grain: float = 0.012) -> Image.Image:
    """Add film grain and a vignette, which also hide the steps of 8-bit colour."""
    size = colour[0].size
    x, y = ramp(size)
    aspect = size[1] / size[0]
    far = (x - 0.5) * (x - 0.5) + (y - aspect / 2) * (y - aspect / 2)
    vignette = 1.0 - far * (0.55 / (0.25 + aspect * aspect / 4))
    speckle = (noise(size, (size[0] // 2, size[1] // 2), seed, octaves=2) - 0.5) * (grain * 4)
    channels = [(shoulder(channel * vignette) + speckle).clamp().to_mask() for channel in colour]
    return Image.merge("RGB", channels)


def shoulder(light: Field) -> Field:
    """Leave the shadows alone and bend the highlights towards 1, as film does, instead of clipping them."""
    over = (light - 0.7).clamp(0.0, 9.0)
    return light.clamp(0.0, 0.7) + (1.0 - (over * -2.6).exp()) * 0.3


# ------------------------------------------------------------------------------------- the sea at dusk
def by_perspective(texture: Field, size: tuple[int, int], near: float, depth: float) -> Field:
    """Lay a texture on a plane that recedes to a horizon at the first row.

    `near` is the texture's scale in the last row, `depth` how many of its rows pass per unit of distance.
    """
    width, height = size
    plane = Image.new("F", size)
    for row in range(height):
        distance = height / (row + 1.5)
        span = min(near * distance * width, texture.size[0])
        left = (texture.size[0] - span) / 2
        thick = min(max(1.0, depth * distance / (row + 1.5)), 48.0)
        top = (depth * distance) % (texture.size[1] - thick)
        box = (left, top, left + span, top + thick)
        plane.paste(texture.image.resize((width, 1), Image.Resampling.BILINEAR, box=box), (0, row))
    return Field(plane)


def flipped(field: Field) -> Field:
    """Turn upside down."""
    return Field(field.image.transpose(Image.Transpose.FLIP_TOP_BOTTOM))


SKY = [
    (0.00, (1.00, 0.66, 0.34)),
    (0.05, (0.98, 0.53, 0.36)),
    (0.13, (0.83, 0.40, 0.44)),
    (0.24, (0.52, 0.33, 0.52)),
    (0.38, (0.26, 0.26, 0.49)),
    (0.60, (0.10, 0.14, 0.34)),
]


def sky_light(elevation: Field, azimuth: Field) -> Colour:
    """The sky's colour at an elevation, and the glow of the sun at azimuth 0."""
    base = gradient(elevation, SKY)
    near = (azimuth * azimuth * -2.6 + elevation * elevation * -9.0).exp()
    return lighten(base, (0.34, 0.17, 0.02), near)


def dusk_sea(size: tuple[int, int] = (1920, 1280)) -> Image.Image:
    """A sloop on a calm sea, the sun about to set."""
    width, height = size
    horizon = round(height * 0.57)
    sky = dusk_sky((width, horizon))
    sea = dusk_water((width, height - horizon))
    colour = flat(size, (0.0, 0.0, 0.0))
    for channel, above, below in zip(colour, sky, sea, strict=True):
        channel.image.paste(above.image, (0, 0))
        channel.image.paste(below.image, (0, horizon))
    colour = headlands(colour, horizon)
    return finished(sailboat(colour, (width * 0.29, horizon + height * 0.018), height * 0.155), seed=11)


SUN_X = 0.63


def dusk_sky(size: tuple[int, int]) -> Colour:
    """Clouds on a plane overhead, lit on the side of the sun: where the cover thins towards it."""
    x, y = ramp(size)
    elevation = (size[1] / size[0] - y) * 1.5
    colour = sky_light(elevation, (x - SUN_X) * 2.0)
    texture = noise((4096, 2048), (14, 22), 5, octaves=7)
    cover = flipped(by_perspective(texture, size, 0.24, 190))
    lit = flipped(by_perspective(texture.shift(22, 46), size, 0.24, 190))
    density = cover.step(0.46, 0.70) * elevation.step(0.012, 0.09)
    edge = ((cover - lit) * 5.0 + 0.42).clamp()
    near = ((x - SUN_X) * (x - SUN_X) * -5.0 + elevation * elevation * -5.0).exp()
    shade = mix(flat(size, (0.25, 0.19, 0.37)), flat(size, (0.58, 0.28, 0.33)), near)
    light = mix(flat(size, (0.83, 0.45, 0.49)), flat(size, (1.10, 0.76, 0.46)), near)
    colour = mix(colour, mix(shade, light, edge), density * 0.85)
    dx, dy = x - SUN_X, elevation - 0.042
    distance = (dx * dx * 2.25 + dy * dy) ** 0.5
    colour = lighten(colour, (0.42, 0.27, 0.10), (distance * -8.0).exp())
    colour = lighten(colour, (0.50, 0.40, 0.22), (distance * -26.0).exp())
    return tint(colour, (1.6, 1.42, 1.1), distance.step(0.033, 0.0295))


def dusk_water(size: tuple[int, int]) -> Colour:
    """Waves tilt the mirror: each pixel shows the sky at the elevation to which its slope reflects."""
    x, y = ramp(size)
    waves = noise((8192, 1536), (150, 56), 7, octaves=6) - 0.5
    cross = noise((8192, 1536), (210, 60), 8, octaves=6) - 0.5
    tilt = by_perspective(waves, size, 0.30, 260)
    lean = by_perspective(cross, size, 0.30, 260)
    view = y * 1.0
    elevation = view + tilt * (view * 1.7 + 0.16)
    elevation = (elevation * elevation + 0.0006) ** 0.5
    azimuth = (x - SUN_X) * 2.0 + lean * 0.8
    mirrored = sky_light(elevation, azimuth)
    grazing = (1.0 - (view * 1.3).clamp()) ** 3.0 * 0.72 + 0.16
    deep = flat(size, (0.03, 0.075, 0.15))
    colour = mix(deep, mirrored, grazing)
    rise = elevation - 0.03
    glitter = (azimuth * azimuth * -34.0 + rise * rise * -150.0).exp()
    return lighten(colour, (1.0, 0.64, 0.32), glitter * (0.75 - view * 0.7))


def headlands(colour: Colour, horizon: int) -> Colour:
    """Two hazy ridges at the right edge, the far one paler, with their reflections."""
    size = colour[0].size
    for seed, start, height, rgb, solid in (
        (4, 0.70, 0.045, (0.66, 0.36, 0.40), 0.72),
        (9, 0.83, 0.075, (0.30, 0.19, 0.31), 0.92),
    ):
        outline = ridge(size, horizon, start, height, seed)
        land = inside(size, outline)
        colour = tint(colour, rgb, land * solid)
        mirror = [(x, horizon + (horizon - y) * 0.8) for x, y in outline]
        shadow = inside(size, mirror)
        colour = tint(colour, rgb, shadow.blur(5) * (solid * 0.5))
    return colour


def ridge(size: tuple[int, int], base: int, start: float, height: float, seed: int) -> list[Point]:
    """A skyline that rises from `start` to the right edge; all but the last two arguments in pixels."""
    width = size[0]
    rough = noise((512, 1), (6, 1), seed, octaves=6).image
    crest: list[Point] = []
    for step in range(200):
        at = start + (1.02 - start) * step / 199
        part = (at - start) / (1.0 - start)
        bumps = at_pixel(rough, min(int(step * 2.5), 511))
        crest.append((at * width, base - size[1] * height * math.sin(part * 1.5) ** 0.8 * (0.45 + bumps)))
    return [(start * width, base), *crest, (width * 1.02, base)]


def sailboat(colour: Colour, foot: Point, tall: float) -> Colour:
    """A small sloop against the light, with a broken reflection."""
    size = colour[0].size
    hull = curve([(-0.27, 0.055), (-0.14, 0.0), (0.18, 0.0), (0.33, 0.075)])
    main = [(0.0, 1.0), *curve([(0.0, 1.0), (-0.17, 0.5), (-0.27, 0.13)]), (-0.012, 0.11)]
    jib = [*curve([(0.012, 0.93), (0.12, 0.45), (0.31, 0.1)]), (0.05, 0.13)]
    mast = [(-0.007, 0.0), (-0.003, 1.02), (0.003, 1.02), (0.007, 0.0)]

    def afloat(up: float) -> Field:
        def draw(pen: ImageDraw.ImageDraw, k: float) -> None:
            for shape in (hull, main, jib, mast):
                points = [((foot[0] + x * tall) * k, (foot[1] - y * tall * up) * k) for x, y in shape]
                pen.polygon(points, fill=255)

        return drawn(size, draw)

    boat, mirror = afloat(1.0), afloat(-0.75)
    broken = noise(size, (60, 300), 21, octaves=3).step(0.35, 0.6)
    colour = tint(colour, (0.16, 0.10, 0.20), mirror.blur(3) * broken * 0.75)
    return tint(colour, (0.17, 0.10, 0.19), boat * 0.95)


def at_pixel(line: Image.Image, x: int) -> float:
    """The value of a one-row float image."""
    value = line.getpixel((x, 0))
    return value if isinstance(value, float) else 0.0


def curve(points: Sequence[Point], steps: int = 16) -> list[Point]:
    """A Catmull-Rom spline through the points."""
    ends = [points[0], *points, points[-1]]
    smooth: list[Point] = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for step in range(steps):
            t = step / steps
            smooth.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    return [*smooth, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


# ------------------------------------------------------------------------------- the woman underwater
FACE = curve(
    [
        (585, 470), (516, 540), (480, 612), (472, 676), (474, 706), (488, 738), (470, 780), (446, 822),
        (424, 856), (428, 874), (450, 882), (470, 890), (467, 908), (450, 926), (447, 938), (464, 948),
        (455, 960), (456, 976), (476, 994), (474, 1016), (470, 1042), (484, 1070), (520, 1086), (580, 1076),
        (650, 1040), (712, 986), (744, 900), (800, 800), (800, 600), (700, 480), (585, 470),
    ]
)  # fmt: skip
BODY = curve(
    [
        (560, 1020), (616, 1070), (634, 1130), (630, 1200), (606, 1272), (556, 1330), (496, 1392),
        (452, 1470), (424, 1580), (430, 1700), (450, 1960), (1130, 1960), (1120, 1720), (1096, 1540),
        (1040, 1400), (950, 1310), (860, 1250), (815, 1160), (800, 1040), (760, 900), (640, 900),
        (560, 1020),
    ]
)  # fmt: skip


UPPER_LIP = curve(
    [(466, 908), (448, 926), (447, 938), (466, 946), (500, 948), (530, 940), (496, 922), (466, 908)]
)
LOWER_LIP = curve(
    [(464, 948), (454, 960), (456, 976), (472, 986), (500, 974), (530, 940), (496, 950), (464, 948)]
)
MOUTH: Sequence[Point] = [(460, 947), (490, 950), (532, 940)]
NECKLINE = curve(
    [
        (380, 1500), (450, 1478), (530, 1500), (640, 1540), (760, 1535), (880, 1490), (1000, 1430),
        (1130, 1400), (1300, 1500), (1300, 2000), (300, 2000), (340, 1700),
    ]
)  # fmt: skip


def underwater_portrait(size: tuple[int, int] = (1280, 1920)) -> Image.Image:
    """A woman in profile, eyes closed, her hair adrift in beams of light."""
    colour = water(size)
    colour = hair(colour, BACK_HAIR, 1500, 31)
    colour = figure(colour)
    colour = hair(colour, FRONT_HAIR, 1300, 32)
    colour = bubbles(colour)
    box = (130, 80, 1130, 1580)
    near = [Field(channel.image.resize(size, Image.Resampling.BICUBIC, box=box)) for channel in colour]
    return finished((near[0], near[1], near[2]), seed=23, grain=0.010)


def beams(size: tuple[int, int], seed: int) -> Field:
    """Light beams that fan out from a point above the picture."""
    width, height = size
    line = noise((2048, 1), (42, 1), seed, octaves=4).image
    fan = Image.new("F", size)
    for row in range(height):
        span = 2048 * 0.8 / (1 + 2.2 * row / height)
        middle = 860 + 200 * row / height / (1 + 2.2 * row / height)
        box = (middle - span / 2, 0, middle + span / 2, 1)
        fan.paste(line.resize((width, 1), Image.Resampling.BICUBIC, box=box), (0, row))
    return Field(fan)


def water(size: tuple[int, int]) -> Colour:
    """Deep water under a rippled surface."""
    x, y = ramp(size)
    depth = y / (size[1] / size[0])
    colour = gradient(
        depth,
        [
            (0.0, (0.52, 0.90, 0.92)),
            (0.16, (0.22, 0.69, 0.78)),
            (0.45, (0.07, 0.42, 0.58)),
            (0.75, (0.03, 0.22, 0.39)),
            (1.0, (0.015, 0.11, 0.24)),
        ],
    )
    glow = ((x - 0.30) * (x - 0.30) * -5.0 + y * y * -2.6).exp()
    colour = lighten(colour, (0.40, 0.48, 0.40), glow)
    fade = depth.step(1.0, 0.0) * ((x - 0.38) * (x - 0.38) * -3.0).exp()
    colour = lighten(colour, (0.40, 0.52, 0.48), beams(size, 5).step(0.46, 0.80) * fade * 0.9)
    murk = noise(size, (5, 7), 6, octaves=4)
    colour = lighten(colour, (0.06, 0.16, 0.18), (murk - 0.5) * 1.3)
    ripples = caustics(size, (7, 26), 77) * depth.step(0.17, 0.0)
    return lighten(colour, (0.55, 0.50, 0.42), ripples)


def caustics(size: tuple[int, int], cells: tuple[int, int], seed: int) -> Field:
    """The net of bright lines that ripples throw: where two layers of noise cross their middle."""
    first = noise(size, cells, seed, octaves=2) - 0.5
    second = noise(size, (cells[0] + 2, cells[1] + 3), seed + 1, octaves=2) - 0.5
    return (first * first * -260.0).exp() * 0.6 + (second * second * -260.0).exp() * 0.6


def inside(size: tuple[int, int], outline: Sequence[Point]) -> Field:
    """1 inside the outline, 0 outside."""
    return drawn(size, lambda pen, k: pen.polygon([(x * k, y * k) for x, y in outline], fill=255))


def stroke(size: tuple[int, int], points: Sequence[Point], width: float) -> Field:
    """A line that swells in the middle and tapers to both ends."""
    line = curve(points, 24)

    def draw(pen: ImageDraw.ImageDraw, k: float) -> None:
        for index, (x, y) in enumerate(line):
            radius = k * width / 2 * math.sin(math.pi * (index + 0.5) / len(line)) ** 0.7
            pen.ellipse((x * k - radius, y * k - radius, x * k + radius, y * k + radius), fill=255)

    return drawn(size, draw)


def relief(mask: Field, light: Point) -> Field:
    """Shade a flat shape as if it bulged: the slope of its blurred mask towards the light, about -1 to 1."""
    total = Field(Image.new("F", mask.size))
    for radius, weight in ((14, 0.5), (45, 1.0), (110, 1.6)):
        soft = mask.blur(radius)
        reach = radius * 0.7
        total = total + (soft - soft.shift(light[0] * reach, light[1] * reach)) * weight
    return total


def blob(size: tuple[int, int], centre: Point, radii: Point, angle: float = 0.0) -> Field:
    """A soft spot: a Gaussian with the given standard deviations in pixels, turned by `angle` degrees."""
    x, y = ramp(size)
    dx, dy = x * size[0] - centre[0], y * size[0] - centre[1]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = (dx * cos + dy * sin) / radii[0], (dy * cos - dx * sin) / radii[1]
    return ((u * u + v * v) * -0.5).exp()


def skin(colour: Colour, mask: Field, brightness: Field) -> Colour:
    """Paint skin: blue in the shade, as the water around it."""
    tone = gradient(
        brightness,
        [
            (0.0, (0.10, 0.17, 0.28)),
            (0.3, (0.42, 0.33, 0.37)),
            (0.6, (0.80, 0.57, 0.48)),
            (0.85, (0.97, 0.79, 0.67)),
            (1.1, (1.10, 1.02, 0.92)),
        ],
    )
    return mix(colour, tone, mask)


def figure(colour: Colour) -> Colour:
    """Neck, shoulders and dress, then the face."""
    size = colour[0].size
    face, body = inside(size, FACE), inside(size, BODY)
    net = caustics(size, (12, 18), 40).blur(4)
    _, y = ramp(size)
    dim = (y - 0.85).clamp(0.0, 1.0) * 0.5
    shade = face.shift(18, 60).blur(34) * 0.42
    light = 0.44 + relief(body, (0.75, 0.65)) * 0.55 - shade - dim + net * 0.085
    light = light + stroke(size, [(600, 1300), (690, 1330), (800, 1318)], 22).blur(9) * 0.10
    light = light - stroke(size, [(640, 1120), (655, 1210), (632, 1290)], 30).blur(16) * 0.10
    colour = skin(colour, body, light)
    colour = dress(colour, body)
    light = 0.55 + relief(face, (0.80, 0.50)) * 0.62 + net * 0.07
    light = (
        light + blob(size, (545, 850), (46, 30), -25) * 0.10 - blob(size, (600, 930), (60, 34), -40) * 0.10
    )
    light = light - blob(size, (508, 742), (34, 20)) * 0.13 - blob(size, (474, 888), (20, 8), 10) * 0.16
    light = light - blob(size, (482, 992), (20, 8), -15) * 0.14
    colour = skin(colour, face, light)
    colour = features(colour, face)
    return tint(colour, (0.02, 0.16, 0.30), (y - 1.02).step(0.0, 0.30) * 0.75)


def features(colour: Colour, face: Field) -> Colour:
    """Cheek, closed eye, brow, nostril and lips."""
    size = colour[0].size
    colour = tint(colour, (0.86, 0.36, 0.36), blob(size, (560, 880), (52, 34), -20) * face * 0.28)
    lids = stroke(size, [(492, 748), (510, 764), (536, 768), (562, 756)], 7)
    lashes = [
        stroke(size, [(x, y), (x - 8, y + 9), (x - 20, y + 13)], 3.4)
        for x, y in ((498, 755), (506, 762), (516, 766), (527, 768), (538, 767))
    ]
    for mark in (lids, *lashes):
        colour = tint(colour, (0.13, 0.08, 0.10), mark * 0.85)
    crease = stroke(size, [(496, 724), (520, 726), (556, 738)], 5).blur(2)
    colour = tint(colour, (0.40, 0.24, 0.24), crease * 0.55)
    brow = stroke(size, [(482, 694), (512, 672), (556, 668), (600, 686)], 14).blur(3)
    colour = tint(colour, (0.20, 0.11, 0.10), brow * 0.72)
    nostril = stroke(size, [(446, 872), (458, 864), (470, 874)], 9).blur(2)
    colour = tint(colour, (0.34, 0.15, 0.14), nostril * 0.8)
    wing = stroke(size, [(474, 842), (486, 860), (476, 880)], 6).blur(3)
    colour = tint(colour, (0.48, 0.26, 0.25), wing * 0.5)
    upper, lower, between = inside(size, UPPER_LIP), inside(size, LOWER_LIP), stroke(size, MOUTH, 5)
    colour = tint(colour, (0.60, 0.20, 0.24), upper.blur(2) * face * 0.75)
    colour = tint(colour, (0.74, 0.28, 0.30), lower.blur(2) * face * 0.75)
    colour = tint(colour, (0.26, 0.07, 0.10), between.blur(1) * face * 0.8)
    return lighten(colour, (0.5, 0.4, 0.38), blob(size, (466, 964), (9, 5), -20) * face * 0.6)


def dress(colour: Colour, body: Field) -> Colour:
    """A white dress below the collar bones, with soft folds."""
    size = colour[0].size
    cloth = inside(size, NECKLINE) * body
    straps = stroke(size, [(476, 1500), (508, 1440), (560, 1318)], 20)
    straps = (straps + stroke(size, [(900, 1500), (905, 1400), (872, 1240)], 22)).clamp() * body
    folds = noise(size, (11, 4), 61, octaves=3)
    light = 0.42 + relief(cloth, (0.7, 0.5)) * 0.40 + (folds - 0.5) * 0.55
    tone = gradient(light, [(0.0, (0.05, 0.22, 0.32)), (0.5, (0.34, 0.58, 0.64)), (1.0, (0.92, 0.98, 0.94))])
    colour = tint(colour, (0.08, 0.10, 0.18), straps.shift(7, 5).blur(6) * body * 0.5)
    colour = tint(colour, (0.08, 0.10, 0.18), cloth.shift(0, -7).blur(9) * body * 0.45)
    return mix(colour, tone, (cloth + straps).clamp())


Guides: TypeAlias = Sequence[Sequence[Point]]
BACK_HAIR: Guides = (
    [(600, 480), (680, 380), (800, 330), (900, 230), (1040, 190), (1130, 90)],
    [(680, 470), (800, 420), (920, 400), (1040, 300), (1160, 290), (1290, 200)],
    [(760, 520), (880, 520), (1000, 540), (1110, 470), (1220, 480), (1340, 410)],
    [(800, 640), (920, 680), (1030, 720), (1140, 680), (1240, 710), (1350, 670)],
    [(800, 780), (900, 850), (1000, 910), (1110, 900), (1210, 960), (1340, 960)],
    [(780, 920), (850, 1010), (940, 1090), (1050, 1110), (1140, 1190), (1250, 1220)],
    [(740, 1000), (790, 1110), (870, 1210), (960, 1270), (1020, 1370), (1110, 1440)],
)
FRONT_HAIR: Guides = (
    [(546, 502), (562, 436), (640, 380), (760, 390), (860, 330), (960, 330)],
    [(534, 534), (596, 478), (700, 460), (820, 490), (930, 450), (1060, 470)],
    [(538, 568), (622, 542), (720, 560), (830, 610), (950, 590), (1090, 630)],
    [(564, 604), (642, 624), (730, 680), (830, 740), (950, 750), (1090, 810)],
    [(600, 640), (660, 720), (730, 800), (820, 880), (930, 920), (1050, 1000)],
    [(640, 720), (680, 820), (740, 920), (810, 1020), (900, 1090), (990, 1190)],
    [(668, 800), (690, 900), (730, 1010), (780, 1120), (850, 1220), (920, 1340)],
)


def hair(colour: Colour, guides: Guides, count: int, seed: int) -> Colour:
    """Strands between the guides, in five tones from the darkest at the back to the lit ones in front."""
    size = colour[0].size
    tones: Sequence[tuple[RGB, float]] = (
        ((0.09, 0.05, 0.08), 0.95),
        ((0.17, 0.085, 0.085), 0.85),
        ((0.30, 0.14, 0.11), 0.75),
        ((0.52, 0.26, 0.16), 0.62),
        ((0.92, 0.62, 0.40), 0.50),
    )
    lines = [curve(guide, 12) for guide in guides]
    covered = Field(Image.new("F", size))
    for level, (rgb, solid) in enumerate(tones):
        chance = dice(seed * 10 + level)
        share = count // 5 if level < 4 else count // 9
        wide = (11.0, 7.5, 5.0, 3.2, 2.2)[level]
        strands = [strand(lines, chance) for _ in range(share)]
        layer = drawn(size, partial(tapered, strands=strands, width=wide), scale=2)
        colour = tint(colour, rgb, layer * solid)
        covered = covered + (1.0 - covered) * layer
    crown = blob(size, (690, 430), (190, 60), -18) + blob(size, (720, 600), (150, 70), 30) * 0.6
    colour = lighten(colour, (0.30, 0.20, 0.12), covered * crown)
    x, y = ramp(size)
    colour = lighten(colour, (0.05, 0.22, 0.26), covered * (0.45 - y).step(0.0, 0.4) * x.step(0.4, 0.8) * 0.8)
    return tint(colour, (0.05, 0.28, 0.42), covered * (x + y * 0.25).step(0.72, 1.3) * 0.55)


def strand(lines: Sequence[Sequence[Point]], chance: random.Random) -> list[Point]:
    """A strand somewhere between two neighbouring guides, waving more the farther it is from the root."""
    at = chance.random() * (len(lines) - 1.001)
    low = int(at)
    part, phase, sway = at - low, chance.random() * math.tau, chance.gauss(0, 1)
    first, second = lines[low], lines[low + 1]
    begin, end = chance.randrange(5), round(len(first) * chance.uniform(0.5, 1.0) ** 0.8)
    points: list[Point] = []
    for index in range(begin, end):
        (ax, ay), (bx, by) = first[index], second[index]
        loose = (index / len(first)) ** 1.4
        wave = loose * (
            34 * sway + 24 * math.sin(phase + index * 0.15) + 22 * math.sin(at * 2.1 + index * 0.11)
        )
        points.append((ax + (bx - ax) * part + wave * 0.35, ay + (by - ay) * part + wave))
    return points


def tapered(pen: ImageDraw.ImageDraw, k: float, *, strands: Iterable[Sequence[Point]], width: float) -> None:
    """Draw lines that begin fine, swell, and end in a point."""
    for points in strands:
        for index, ((ax, ay), (bx, by)) in enumerate(pairwise(points)):
            swell = min(1.0, 0.25 + index / 10) * (1 - index / len(points)) ** 0.7
            pen.line([(ax * k, ay * k), (bx * k, by * k)], fill=255, width=max(1, round(width * k * swell)))


def bubbles(colour: Colour) -> Colour:
    """Rising bubbles, and motes that catch the light."""
    size = colour[0].size
    chance = dice(88)
    rings = [(chance.uniform(90, 420), chance.uniform(120, 900), chance.uniform(4, 22)) for _ in range(26)]

    def draw_rims(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in rings:
            pen.ellipse(
                ((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k),
                outline=255,
                width=round(k * max(1.2, r / 9)),
            )

    def draw_glints(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in rings:
            gx, gy, g = x - r * 0.4, y - r * 0.4, max(1.0, r * 0.2)
            pen.ellipse(((gx - g) * k, (gy - g) * k, (gx + g) * k, (gy + g) * k), fill=255)

    colour = lighten(colour, (0.45, 0.60, 0.60), drawn(size, draw_rims).blur(0.8) * 0.55)
    colour = lighten(colour, (0.9, 0.95, 0.9), drawn(size, draw_glints).blur(0.8))
    motes = [
        (chance.uniform(0, size[0]), chance.uniform(0, size[1]), chance.uniform(1, 3.2)) for _ in range(170)
    ]

    def draw_motes(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in motes:
            pen.ellipse(((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k), fill=255)

    return lighten(colour, (0.30, 0.42, 0.42), drawn(size, draw_motes).blur(1.6) * 0.7)


# ------------------------------------------------------------------------------- the street of palms
VANISHING: Point = (1150.0, 840.0)


def palm_street(size: tuple[int, int] = (1920, 1280)) -> Image.Image:
    """A woman walks under palm trees towards a low sun."""
    colour = street_sky(size)
    colour = skyline(colour)
    colour = ground(colour)
    for foot_x, tall, seed in (
        (-640.0, 210.0, 73),
        (2920.0, 210.0, 74),
        (-420.0, 85.0, 71),
        (2720.0, 85.0, 72),
    ):
        colour = hedge(colour, (foot_x, 1290.0), tall, seed)
    trees = palms()
    for place in trees[:-4]:
        colour = palm(colour, *place)
    colour = walker(colour, (432.0, 1136.0), 325.0)
    for place in trees[-4:]:
        colour = palm(colour, *place)
    return finished(haze(colour), seed=41, grain=0.010)


def street_sky(size: tuple[int, int]) -> Colour:
    """A clear sky that pales towards the sun."""
    x, y = ramp(size)
    colour = gradient(
        y,
        [
            (0.0, (0.16, 0.42, 0.74)),
            (0.20, (0.38, 0.64, 0.86)),
            (0.34, (0.78, 0.82, 0.80)),
            (0.44, (1.02, 0.84, 0.58)),
        ],
    )
    dx, dy = x - 0.60, y - 0.40
    distance = (dx * dx + dy * dy) ** 0.5
    colour = lighten(colour, (0.75, 0.50, 0.20), (distance * -5.5).exp())
    colour = lighten(colour, (1.0, 0.8, 0.5), (distance * distance * -420.0).exp())
    wisps = noise(size, (5, 16), 51, octaves=6).step(0.54, 0.80) * y.step(0.42, 0.15)
    return tint(colour, (1.05, 0.96, 0.88), wisps * 0.55)


def skyline(colour: Colour) -> Colour:
    """Hills, towers in the haze, and the low houses of both sides."""
    size = colour[0].size
    for seed, base, height, rgb in ((61, 800, 90, (0.86, 0.70, 0.60)), (62, 840, 60, (0.66, 0.52, 0.48))):
        rough = noise((512, 1), (7, 1), seed, octaves=5).image
        crest = [(x * 4.0, base - height * at_pixel(rough, x)) for x in range(0, 490, 3)]
        hill = inside(size, [(0, 1280), *crest, (1960, 1280)])
        colour = tint(colour, rgb, hill * 0.8)
    chance = dice(7)
    towers = [(chance.gauss(1010, 120), chance.uniform(20, 44), chance.uniform(40, 150)) for _ in range(16)]

    def draw(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, wide, tall in towers:
            pen.rectangle(((x - wide / 2) * k, (835 - tall) * k, (x + wide / 2) * k, 850 * k), fill=255)

    colour = tint(colour, (0.76, 0.62, 0.58), drawn(size, draw) * 0.65)
    return houses(colour)


def toward(start: Point, part: float) -> Point:
    """The point at `part` of the way to the vanishing point."""
    return (start[0] + (VANISHING[0] - start[0]) * part, start[1] + (VANISHING[1] - start[1]) * part)


def houses(colour: Colour) -> Colour:
    """Three houses on each side, those on the right in the shade."""
    fronts: Sequence[tuple[float, float, float, float, RGB]] = (
        (-620, 0.62, 0.78, 330, (0.80, 0.58, 0.44)), (-620, 0.45, 0.60, 420, (0.92, 0.74, 0.58)),
        (-620, 0.22, 0.42, 300, (0.70, 0.46, 0.38)),
        (2860, 0.66, 0.80, 380, (0.52, 0.36, 0.34)), (2860, 0.48, 0.64, 320, (0.46, 0.31, 0.31)),
        (2860, 0.25, 0.46, 440, (0.38, 0.26, 0.29)),
    )  # fmt: skip
    for foot_x, near, far, tall, rgb in fronts:
        colour = house(colour, (foot_x, 1270.0), near=near, far=far, tall=tall, rgb=rgb)
    return colour


def house(colour: Colour, foot: Point, *, near: float, far: float, tall: float, rgb: RGB) -> Colour:
    """A front that recedes from part `near` to part `far` of the way to the vanishing point."""
    size = colour[0].size

    def at(part: float, up: float) -> Point:
        x, y = toward(foot, part)
        return x, y - tall * 1.9 * up * (1 - part)

    wall = inside(size, [at(near, 0), at(near, 1), at(far, 1), at(far, 0)])
    tone = noise(size, (60, 60), 73, octaves=2) * 0.16 + 0.90
    colour = textured(tint(colour, rgb, wall), tone, wall)
    dark, bright = rgb[0] * 0.42, 0.9
    for floor in (0.22, 0.58):
        for step in range(5):
            a = near + (far - near) * (0.1 + step * 0.18)
            b = a + (far - near) * 0.09
            pane = inside(size, [at(a, floor), at(a, floor + 0.2), at(b, floor + 0.2), at(b, floor)])
            glow: RGB = (
                (bright, 0.68, 0.40) if (step + round(tall)) % 4 == 0 else (dark, dark * 0.9, dark * 1.1)
            )
            colour = tint(colour, glow, pane * 0.8)
    roof = inside(size, [at(near, 1.0), at(near, 1.06), at(far, 1.06), at(far, 1.0)])
    return tint(colour, (rgb[0] * 0.62, rgb[1] * 0.52, rgb[2] * 0.5), roof)


def hedge(colour: Colour, foot: Point, tall: float, seed: int) -> Colour:
    """Bushes along the street: leaves in clumps, the upper ones in the sun."""
    size = colour[0].size
    chance = dice(seed)
    clumps = [(chance.random() * 0.93, chance.uniform(0.55, 1.0)) for _ in range(70)]
    leaves: list[tuple[float, float, float, float]] = []
    for _ in range(9000):
        part, high = chance.choice(clumps)
        part += chance.gauss(0, 0.012)
        x, y = toward(foot, part)
        grow, up = 1 - part, abs(chance.gauss(0.45, 0.28))
        y -= up * tall * high * grow
        leaves.append((x + chance.gauss(0, tall * 0.55) * grow, y, chance.uniform(5, 10) * grow + 0.6, up))
    for above, share, rgb in (
        (0.0, 1.0, (0.09, 0.12, 0.09)),
        (0.2, 0.45, (0.17, 0.20, 0.10)),
        (0.45, 0.30, (0.33, 0.33, 0.14)),
        (0.7, 0.30, (0.68, 0.56, 0.24)),
    ):
        some = [leaf for leaf in leaves if leaf[3] >= above and chance.random() < share]

        colour = tint(colour, rgb, drawn(size, partial(dots, leaves=some)) * 0.9)
    return colour


def dots(pen: ImageDraw.ImageDraw, k: float, *, leaves: Iterable[tuple[float, float, float, float]]) -> None:
    """Draw leaves: flat ellipses of a centre and a radius."""
    for x, y, r, _ in leaves:
        pen.ellipse(((x - r) * k, (y - r * 0.6) * k, (x + r) * k, (y + r * 0.6) * k), fill=255)


def ground(colour: Colour) -> Colour:
    """The lawn, the pavement on the left, and the road with its markings."""
    size = colour[0].size
    x, y = ramp(size)
    below = (y * size[0] / (VANISHING[1] + 6)).step(1.0, 1.006)
    near = (y - VANISHING[1] / size[0]) / 0.23
    dust = noise(size, (400, 500), 81, octaves=3) * 0.22 + 0.89
    ways: Sequence[tuple[Sequence[float], RGB, RGB]] = (
        ((-2600, 5200), (0.58, 0.50, 0.28), (0.25, 0.28, 0.13)),
        ((-270, 330), (1.02, 0.82, 0.62), (0.70, 0.56, 0.47)),
        ((480, 520), (1.1, 0.90, 0.68), (0.80, 0.66, 0.55)),
        ((520, 2260), (0.86, 0.64, 0.48), (0.27, 0.25, 0.28)),
        ((2260, 2310), (0.9, 0.72, 0.56), (0.55, 0.46, 0.42)),
    )
    for (left, right), far, close in ways:
        area = inside(size, [VANISHING, (left, 1290), (right, 1290)]) * below
        tone = gradient(near, [(0.0, far), (0.8, close)])
        colour = textured(mix(colour, tone, area), dust, area)
    colour = markings(colour)
    colour = shadows(colour)
    gleam = ((x - 0.57) * (x - 0.57) * -60.0).exp() * (1.0 - near.clamp()) * below
    return lighten(colour, (0.55, 0.36, 0.14), gleam * 0.8)


def markings(colour: Colour) -> Colour:
    """The dashes of the road and the joints of the pavement."""
    size = colour[0].size

    def draw(pen: ImageDraw.ImageDraw, k: float) -> None:
        for step in range(14):
            a, b = 1 - 0.74**step, 1 - 0.74 ** (step + 0.5)
            corners = [
                toward((1380, 1290), a),
                toward((1408, 1290), a),
                toward((1408, 1290), b),
                toward((1380, 1290), b),
            ]
            pen.polygon([(px * k, py * k) for px, py in corners], fill=255)
        for step in range(1, 16):
            part = 1 - 0.8**step
            (ax, ay), (bx, by) = toward((-270, 1290), part), toward((330, 1290), part)
            pen.line([(ax * k, ay * k), (bx * k, by * k)], fill=90, width=max(1, round(5 * (1 - part) * k)))

    lines = drawn(size, draw)
    pale = inside(size, [VANISHING, (520, 1290), (2260, 1290)])
    colour = tint(colour, (0.98, 0.84, 0.58), lines * pale * 0.8)
    return tint(colour, (0.36, 0.26, 0.24), lines * (1.0 - pale) * 0.9)


def shadows(colour: Colour) -> Colour:
    """Long shadows of the trunks: they run from the sun, low behind the street, towards the viewer."""
    size = colour[0].size
    sun = (0.60 * size[0], 0.40 * size[0])

    def draw(pen: ImageDraw.ImageDraw, k: float) -> None:
        for (x, y), tall, _ in palms():
            dx, dy = x - sun[0], y - sun[1] + 60
            wide = tall * 0.016
            end = (x + dx * 3, y + dy * 3)
            corners = [(x - wide, y), (x + wide, y), (end[0] + wide * 7, end[1]), (end[0] - wide * 7, end[1])]
            pen.polygon([(px * k, py * k) for px, py in corners], fill=255)

    return tint(colour, (0.16, 0.15, 0.24), drawn(size, draw, 2).blur(4) * 0.5)


def palms() -> list[tuple[Point, float, int]]:
    """Feet, heights and seeds, the farthest first."""
    rows: list[tuple[Point, float, int]] = []
    for index, part in enumerate((0.96, 0.94, 0.915, 0.88, 0.835, 0.77, 0.67, 0.5, 0.22)):
        tall = 1750 * (1 - part)
        rows.append(
            (toward((2440, 1320), part + 0.01), tall * (1 + 0.09 * math.sin(index * 1.7)), 200 + index)
        )
        rows.append((toward((405, 1320), part), tall * (1 + 0.07 * math.sin(index * 2.3)), 100 + index))
    return rows


def within(
    colour: Colour, box: tuple[float, float, float, float], paint: Callable[[Colour, Point], Colour]
) -> Colour:
    """Paint only inside a box (pixels, cut to the picture); `paint` gets the patch and its origin."""
    size = colour[0].size
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(size[0], math.ceil(box[2])), min(size[1], math.ceil(box[3]))
    if right - left < 2 or bottom - top < 2:
        return colour
    cut = [Field(channel.image.crop((left, top, right, bottom))) for channel in colour]
    painted = paint((cut[0], cut[1], cut[2]), (left, top))
    for channel, patch in zip(colour, painted, strict=True):
        channel.image.paste(patch.image, (left, top))
    return colour


def palm(colour: Colour, foot: Point, tall: float, seed: int) -> Colour:
    """Paint one palm tree."""
    chance = dice(seed)
    lean = chance.uniform(-0.035, 0.035) * tall
    top = (foot[0] + lean, foot[1] - tall)
    reach = tall * 0.26
    box = (min(top[0], foot[0]) - reach, top[1] - reach, max(top[0], foot[0]) + reach, foot[1] + 10)
    side = -1 if foot[0] > VANISHING[0] else 1

    def paint(patch: Colour, origin: Point) -> Colour:
        base = (foot[0] - origin[0], foot[1] - origin[1])
        return painted_palm(patch, base, lean=lean, tall=tall, side=side, chance=chance)

    return within(colour, box, paint)


def painted_palm(
    colour: Colour, foot: Point, *, lean: float, tall: float, side: int, chance: random.Random
) -> Colour:
    """A trunk with a lit edge, and the crown's fronds from the shaded to the sunlit ones."""
    size = colour[0].size
    top = (foot[0] + lean, foot[1] - tall)
    bend = [
        foot,
        (foot[0] + lean * 0.1, foot[1] - tall * 0.4),
        (foot[0] + lean * 0.5, foot[1] - tall * 0.75),
        top,
    ]
    trunk = curve(bend, 20)
    fade = min(1.0, 120 / tall)
    dark = tuple_mix((0.19, 0.12, 0.11), (0.62, 0.44, 0.34), fade)
    green = tuple_mix((0.07, 0.12, 0.07), (0.52, 0.44, 0.27), fade)
    gold = tuple_mix((0.74, 0.60, 0.22), (0.86, 0.68, 0.38), fade)
    radii = [
        tall * (0.0105 - 0.004 * index / len(trunk)) * (1 + 0.5 * math.exp(-index / 3))
        for index in range(len(trunk))
    ]
    left = [(x - r, y) for (x, y), r in zip(trunk, radii, strict=True)]
    right = [(x + r, y) for (x, y), r in zip(trunk, radii, strict=True)]
    body = inside(size, [*left, *reversed(right)])
    rings = noise(size, (2, max(4, size[1] // 7)), 300, octaves=1) * 0.5 + 0.75
    colour = textured(tint(colour, dark, body), rings, body)
    rim = (body - body.shift(-side * tall * 0.005, 0)).clamp()
    colour = lighten(colour, (0.75, 0.47, 0.20), rim)
    for layer in range(7):
        ribs = [frond(top, tall * 0.20, chance) for _ in range(6)]
        shape = drawn(size, partial(leaflets, ribs=ribs, tall=tall))
        colour = tint(colour, tuple_mix(green, gold, (layer / 6) ** 1.6 * 0.75), shape * 0.92)
    return colour


def tuple_mix(a: RGB, b: RGB, part: float) -> RGB:
    """Go from one colour to another."""
    red, green, blue = (p + (q - p) * part for p, q in zip(a, b, strict=True))
    return red, green, blue


def frond(top: Point, long: float, chance: random.Random) -> list[Point]:
    """A rib that rises from the crown and droops; foreshortened by chance."""
    angle = chance.uniform(0, math.tau)
    reach = math.cos(angle) * long * chance.uniform(0.8, 1.1)
    lift = long * chance.uniform(-0.15, 0.95)
    droop = long * chance.uniform(0.30, 0.75)
    points: list[Point] = []
    for index in range(13):
        t = index / 12
        points.append(
            (top[0] + reach * t * (1.1 - 0.2 * t), top[1] - lift * 1.3 * t + (lift * 0.6 + droop) * t**2.2)
        )
    return points


def leaflets(pen: ImageDraw.ImageDraw, k: float, *, ribs: Iterable[Sequence[Point]], tall: float) -> None:
    """Draw fronds: ribs, and fine leaves along both their sides."""
    for rib in ribs:
        pen.line([(x * k, y * k) for x, y in rib], fill=255, width=max(1, round(tall * 0.0024 * k)))
        fine = curve(rib, 4)
        for index, ((ax, ay), (bx, by)) in enumerate(pairwise(fine)):
            t = index / len(fine)
            length = tall * 0.050 * math.sin(math.pi * (0.10 + 0.86 * t)) ** 0.8
            norm = math.hypot(bx - ax, by - ay) or 1.0
            ux, uy = (bx - ax) / norm, (by - ay) / norm
            for side in (-1, 1):
                ex = ax + length * (ux * 0.8 - uy * 0.5 * side)
                ey = ay + length * (uy * 0.8 + ux * 0.5 * side + 0.35)
                pen.line(
                    [(ax * k, ay * k), (ex * k, ey * k)], fill=255, width=max(1, round(tall * 0.0014 * k))
                )


Limb: TypeAlias = tuple[float, Sequence[Point]]
LEGS: Sequence[Limb] = (
    (0.030, [(-0.03, 0.36), (-0.036, 0.20), (-0.03, 0.02)]),
    (0.030, [(0.035, 0.36), (0.05, 0.20), (0.048, 0.075)]),
    (0.018, [(-0.03, 0.022), (-0.034, 0.005)]),
    (0.017, [(0.048, 0.08), (0.046, 0.045)]),
)
ARMS: Sequence[Limb] = (
    (0.019, [(-0.088, 0.79), (-0.118, 0.67), (-0.098, 0.55)]),
    (0.019, [(0.088, 0.79), (0.128, 0.68), (0.132, 0.56)]),
)
CLOTHES: Sequence[tuple[RGB, Sequence[Point]]] = (
    ((0.50, 0.31, 0.22), [  # the neck and back
        (-0.085, 0.815), (-0.025, 0.84), (0.025, 0.84), (0.085, 0.815), (0.06, 0.74), (-0.06, 0.74)]),
    ((0.74, 0.26, 0.20), [  # the dress
        (-0.088, 0.805), (-0.045, 0.79), (0.0, 0.77), (0.045, 0.79), (0.088, 0.805), (0.076, 0.72),
        (0.058, 0.645), (0.083, 0.55), (0.112, 0.44), (0.150, 0.33), (0.09, 0.318), (0.03, 0.33),
        (-0.03, 0.315), (-0.08, 0.328), (-0.125, 0.335), (-0.102, 0.44), (-0.080, 0.55), (-0.056, 0.645),
        (-0.074, 0.72)]),
    ((0.20, 0.11, 0.08), [  # the hair
        (0.0, 0.975), (0.052, 0.94), (0.062, 0.87), (0.056, 0.79), (0.02, 0.745), (-0.02, 0.75),
        (-0.056, 0.79), (-0.062, 0.87), (-0.052, 0.94)]),
    ((0.66, 0.50, 0.30), [  # the hat: crown, brim and band
        (-0.052, 0.955), (-0.045, 1.0), (0.0, 1.015), (0.046, 1.002), (0.053, 0.958), (0.0, 0.95)]),
    ((0.72, 0.55, 0.33), [
        (-0.125, 0.945), (-0.05, 0.965), (0.05, 0.968), (0.125, 0.952), (0.06, 0.932), (-0.06, 0.928)]),
    ((0.25, 0.12, 0.10), [
        (-0.053, 0.956), (-0.051, 0.972), (0.0, 0.966), (0.052, 0.974), (0.053, 0.959), (0.0, 0.951)]),
)  # fmt: skip


def walker(colour: Colour, foot: Point, tall: float) -> Colour:
    """A woman in a summer dress and a straw hat, seen from behind, the sun ahead of her on the right."""
    size = colour[0].size

    def placed(points: Iterable[Point]) -> list[Point]:
        return [(foot[0] + x * tall, foot[1] - y * tall) for x, y in points]

    cast = inside(size, placed([(-0.05, 0.0), (0.05, 0.0), (-0.62, -1.0), (-1.1, -1.0)]))
    colour = tint(colour, (0.17, 0.14, 0.22), cast.blur(5) * 0.55)
    bare = [(width * tall, curve(placed(points), 20)) for width, points in (*LEGS, *ARMS)]
    parts = [(drawn(size, partial(limbs, lines=bare)), (0.48, 0.295, 0.21))]
    parts += [(inside(size, curve(placed([*points, points[0]]))), rgb) for rgb, points in CLOTHES]
    folds = noise(size, (90, 12), 91, octaves=2) * 0.4 + 0.80
    for part, rgb in parts:
        lit = (part - part.shift(-tall * 0.016, tall * 0.008)).clamp()
        colour = textured(tint(colour, rgb, part), folds, part)
        colour = lighten(colour, (0.70, 0.46, 0.22), lit * 0.9)
    return colour


def limbs(pen: ImageDraw.ImageDraw, k: float, *, lines: Iterable[tuple[float, Sequence[Point]]]) -> None:
    """Draw arms and legs: lines of a half width, thinner towards their ends."""
    for width, line in lines:
        for index, (x, y) in enumerate(line):
            r = k * width * (1 - 0.42 * index / len(line))
            pen.ellipse((x * k - r, y * k - r, x * k + r, y * k + r), fill=255)


def haze(colour: Colour) -> Colour:
    """Warm light that spills over everything near the sun."""
    size = colour[0].size
    x, y = ramp(size)
    dx, dy = x - 0.60, y - 0.41
    colour = lighten(colour, (0.42, 0.27, 0.11), ((dx * dx * 1.0 + dy * dy * 2.0) * -14.0).exp())
    return lighten(colour, (0.05, 0.03, 0.01), y * 0.0 + 1.0)


def main(folder: Path) -> None:
    """Paint all three into a folder."""
    pictures = {
        "dusk-sea.jpg": dusk_sea,
        "underwater-portrait.jpg": underwater_portrait,
        "palm-street.jpg": palm_street,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, paint in pictures.items():
        path = folder / name
        paint().save(path, quality=80, optimize=True, progressive=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("wiro_async/sandbox/images"))
