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
        limits = {"a": self.image, "low": low, "high": high}
        return Field(ImageMath.lambda_eval(lambda n: n["max"](n["min"](n["a"], n["high"]), n["low"]), **limits))

    def exp(self) -> Field:
        return Field(ImageMath.lambda_eval(lambda n: math.e ** n["a"], a=self.image))

    def step(self, low: float, high: float) -> Field:
        """Rise smoothly from 0 at `low` to 1 at `high`, or fall where `high` is the lower one."""
        t = ((self - low) / (high - low)).clamp()
        return t * t * (3.0 - 2.0 * t)

    def blur(self, radius: float) -> Field:
        return field_of(self.to_mask().filter(ImageFilter.GaussianBlur(radius)))

    def shift(self, x: float, y: float) -> Field:
        moved = (1, 0, -x, 0, 1, -y)
        return Field(self.image.transform(self.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR))

    def to_mask(self) -> Image.Image:
        return (self * 255.0 + 0.5).clamp(0.0, 255.0).image.convert("L")


def _apply(operation: Callable[..., object], a: Field, b: Field | float) -> Field:
    other = b.image if isinstance(b, Field) else float(b)
    return Field(ImageMath.lambda_eval(lambda n: operation(n["a"], n["b"]), a=a.image, b=other))


Colour: TypeAlias = tuple[Field, Field, Field]


def field_of(mask: Image.Image) -> Field:
    return Field(mask.convert("F")) / 255.0


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
        values = Image.frombytes("L", grid, random.Random(seed * 31 + octave).randbytes(grid[0] * grid[1]))
        total = total + Field(values.convert("F").resize(size, Image.Resampling.BICUBIC)) * (weight / 255)
        sums += weight
        weight *= 0.5
    return total / sums


def mix(a: Colour, b: Colour, amount: Field) -> Colour:
    red, green, blue = (p + (q - p) * amount for p, q in zip(a, b, strict=True))
    return red, green, blue


def flat(size: tuple[int, int], rgb: RGB) -> Colour:
    red, green, blue = (Field(Image.new("F", size, value)) for value in rgb)
    return red, green, blue


def tint(base: Colour, rgb: RGB, amount: Field) -> Colour:
    """Paint a colour over `base` where `amount` is 1."""
    return mix(base, flat(amount.size, rgb), amount)


def lighten(base: Colour, rgb: RGB, amount: Field) -> Colour:
    """Add light of a colour."""
    red, green, blue = (channel + amount * value for channel, value in zip(base, rgb, strict=True))
    return red, green, blue


def gradient(at: Field, stops: Sequence[tuple[float, RGB]]) -> Colour:
    """Blend colours along a field; `stops` are (position, colour) in rising order."""
    red, green, blue = flat(at.size, stops[0][1])
    for (low, before), (high, after) in zip(stops, stops[1:], strict=False):
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
    width, height = size
    horizon = round(height * 0.57)
    sky = dusk_sky((width, horizon))
    sea = dusk_water((width, height - horizon))
    whole: list[Field] = []
    for above, below in zip(sky, sea, strict=True):
        channel = Image.new("F", size)
        channel.paste(above.image, (0, 0))
        channel.paste(below.image, (0, horizon))
        whole.append(Field(channel))
    colour = headlands((whole[0], whole[1], whole[2]), horizon)
    return finished(sailboat(colour, (width * 0.29, horizon + height * 0.018), height * 0.155), seed=11)


SUN_X = 0.63


def dusk_sky(size: tuple[int, int]) -> Colour:
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
        land = drawn(size, lambda pen, k, o=outline: pen.polygon([(x * k, y * k) for x, y in o], fill=255))
        colour = tint(colour, rgb, land * solid)
        mirror = [(x, horizon + (horizon - y) * 0.8) for x, y in outline]
        shadow = drawn(size, lambda pen, k, o=mirror: pen.polygon([(x * k, y * k) for x, y in o], fill=255))
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
        bumps = float(str(rough.getpixel((min(int(step * 2.5), 511), 0))))
        crest.append((at * width, base - size[1] * height * math.sin(part * 1.5) ** 0.8 * (0.45 + bumps)))
    return [(start * width, base), *crest, (width * 1.02, base)]


def sailboat(colour: Colour, foot: Point, tall: float) -> Colour:
    """A small sloop against the light, with a broken reflection."""
    size = colour[0].size
    x, y = foot
    mast = (x, y - tall)
    hull = curve([(x - tall * 0.27, y - tall * 0.055), (x - tall * 0.14, y), (x + tall * 0.18, y),
                  (x + tall * 0.33, y - tall * 0.075)])
    main = [mast, *curve([mast, (x - tall * 0.17, y - tall * 0.5), (x - tall * 0.27, y - tall * 0.13)]),
            (x - tall * 0.012, y - tall * 0.11)]
    jib = [(x + tall * 0.012, y - tall * 0.93), *curve([(x + tall * 0.012, y - tall * 0.93),
           (x + tall * 0.12, y - tall * 0.45), (x + tall * 0.31, y - tall * 0.1)]), (x + tall * 0.05, y - tall * 0.13)]

    def draw(pen: ImageDraw.ImageDraw, k: float, up: float = 1.0) -> None:
        for shape in (hull, main, jib):
            pen.polygon([(px * k, (y + (py - y) * up) * k) for px, py in shape], fill=255)
        pen.line([(x * k, y * k), (x * k, (y - tall * 1.02 * up) * k)], fill=255, width=round(2.2 * k))

    boat = drawn(size, draw)
    mirror = drawn(size, lambda pen, k: draw(pen, k, -0.75))
    broken = noise(size, (60, 300), 21, octaves=3).step(0.35, 0.6)
    colour = tint(colour, (0.16, 0.10, 0.20), mirror.blur(3) * broken * 0.75)
    return tint(colour, (0.17, 0.10, 0.19), boat * 0.95)


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
        (585, 470), (520, 545), (484, 620), (472, 676), (474, 706), (488, 738), (470, 780), (446, 822),
        (424, 856), (428, 874), (450, 882), (470, 890), (467, 908), (450, 926), (447, 938), (464, 948),
        (455, 960), (456, 976), (476, 994), (474, 1016), (470, 1042), (484, 1070), (520, 1086), (580, 1076),
        (650, 1040), (712, 986), (744, 900), (800, 800), (800, 600), (700, 480), (585, 470),
    ]
)  # fmt: skip
BODY = curve(
    [
        (560, 1020), (610, 1070), (628, 1130), (622, 1210), (590, 1286), (520, 1340), (430, 1396),
        (372, 1480), (350, 1600), (352, 1760), (340, 1960), (1230, 1960), (1200, 1720), (1160, 1520),
        (1080, 1380), (960, 1300), (860, 1240), (815, 1160), (800, 1040), (760, 900), (640, 900),
        (560, 1020),
    ]
)  # fmt: skip


def underwater_portrait(size: tuple[int, int] = (1280, 1920)) -> Image.Image:
    colour = water(size)
    colour = hair(colour, BACK_HAIR, 1500, 31)
    colour = figure(colour)
    colour = hair(colour, FRONT_HAIR, 1300, 32)
    colour = bubbles(colour)
    return finished(colour, seed=23, grain=0.010)


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
    size = colour[0].size
    face, body = inside(size, FACE), inside(size, BODY)
    net = caustics(size, (13, 19), 40).blur(2)
    _, y = ramp(size)
    dim = (y - 0.75).clamp(0.0, 1.0) * 0.45
    shade = face.shift(18, 60).blur(34) * 0.42
    light = 0.44 + relief(body, (0.75, 0.65)) * 0.55 - shade - dim + net * 0.10
    light = light + stroke(size, [(600, 1300), (690, 1330), (800, 1318)], 22).blur(9) * 0.10
    light = light - stroke(size, [(640, 1120), (655, 1210), (632, 1290)], 30).blur(16) * 0.10
    colour = skin(colour, body, light)
    colour = dress(colour, body)
    light = 0.55 + relief(face, (0.80, 0.50)) * 0.62 + net * 0.11
    light = light + blob(size, (545, 850), (46, 30), -25) * 0.10 - blob(size, (600, 930), (60, 34), -40) * 0.10
    light = light - blob(size, (508, 742), (34, 20)) * 0.13 - blob(size, (474, 888), (20, 8), 10) * 0.16
    light = light - blob(size, (482, 992), (20, 8), -15) * 0.14
    colour = skin(colour, face, light)
    return features(colour, face)


def features(colour: Colour, face: Field) -> Colour:
    size = colour[0].size
    colour = tint(colour, (0.86, 0.36, 0.36), blob(size, (560, 880), (52, 34), -20) * face * 0.28)
    lids = stroke(size, [(492, 748), (510, 764), (536, 768), (562, 756)], 7)
    lashes = [stroke(size, [(x, y), (x - 8, y + 9), (x - 20, y + 13)], 3.4)
              for x, y in ((498, 755), (506, 762), (516, 766), (527, 768), (538, 767))]
    for mark in (lids, *lashes):
        colour = tint(colour, (0.13, 0.08, 0.10), mark * 0.85)
    crease = stroke(size, [(496, 724), (520, 726), (556, 738)], 5).blur(2)
    colour = tint(colour, (0.40, 0.24, 0.24), crease * 0.55)
    brow = stroke(size, [(482, 694), (512, 672), (556, 668), (602, 688)], 17).blur(2.5)
    colour = tint(colour, (0.20, 0.11, 0.10), brow * 0.72)
    nostril = stroke(size, [(446, 872), (458, 864), (470, 874)], 9).blur(2)
    colour = tint(colour, (0.34, 0.15, 0.14), nostril * 0.8)
    wing = stroke(size, [(474, 842), (486, 860), (476, 880)], 6).blur(3)
    colour = tint(colour, (0.48, 0.26, 0.25), wing * 0.5)
    upper = inside(size, curve([(466, 908), (448, 926), (447, 938), (466, 946), (500, 948), (530, 940), (496, 922), (466, 908)]))
    lower = inside(size, curve([(464, 948), (454, 960), (456, 976), (472, 986), (500, 974), (530, 940), (496, 950), (464, 948)]))
    colour = tint(colour, (0.60, 0.20, 0.24), upper.blur(2) * face * 0.75)
    colour = tint(colour, (0.74, 0.28, 0.30), lower.blur(2) * face * 0.75)
    colour = tint(colour, (0.26, 0.07, 0.10), stroke(size, [(460, 947), (490, 950), (532, 940)], 5).blur(1) * face * 0.8)
    return lighten(colour, (0.5, 0.4, 0.38), blob(size, (466, 964), (9, 5), -20) * face * 0.6)


def dress(colour: Colour, body: Field) -> Colour:
    """A white dress below the collar bones, with soft folds."""
    size = colour[0].size
    neck = curve([(300, 1560), (400, 1500), (520, 1520), (660, 1600), (820, 1590), (960, 1480), (1070, 1370),
                  (1180, 1400), (1300, 1500), (1300, 2000), (300, 2000)])
    cloth = inside(size, neck) * body
    strap = stroke(size, [(455, 1530), (470, 1450), (520, 1345)], 34) * body
    cloth = (cloth + strap).clamp()
    folds = noise(size, (16, 5), 61, octaves=4)
    light = 0.40 + relief(cloth, (0.7, 0.7)) * 0.35 + (folds - 0.5) * 0.9
    tone = gradient(light, [(0.0, (0.04, 0.20, 0.30)), (0.5, (0.30, 0.55, 0.62)), (1.0, (0.85, 0.96, 0.95))])
    return mix(colour, tone, cloth)


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
    [(548, 520), (560, 440), (640, 380), (760, 390), (860, 330), (960, 330)],
    [(536, 538), (600, 480), (700, 460), (820, 490), (930, 450), (1060, 470)],
    [(534, 560), (620, 540), (720, 560), (830, 610), (950, 590), (1090, 630)],
    [(560, 590), (640, 620), (730, 680), (830, 740), (950, 750), (1090, 810)],
    [(600, 640), (660, 720), (730, 800), (820, 880), (930, 920), (1050, 1000)],
    [(640, 720), (680, 820), (740, 920), (810, 1020), (900, 1090), (990, 1190)],
    [(668, 800), (690, 900), (730, 1010), (780, 1120), (850, 1220), (920, 1340)],
)


def hair(colour: Colour, guides: Guides, count: int, seed: int) -> Colour:
    """Strands between the guides, in five tones from the darkest at the back to the lit ones in front."""
    size = colour[0].size
    tones: Sequence[tuple[RGB, float]] = (
        ((0.07, 0.05, 0.09), 0.95), ((0.16, 0.08, 0.09), 0.85), ((0.30, 0.14, 0.11), 0.75),
        ((0.50, 0.25, 0.16), 0.62), ((0.86, 0.58, 0.38), 0.50),
    )
    lines = [curve(guide, 12) for guide in guides]
    for level, (rgb, solid) in enumerate(tones):
        chance = random.Random(seed * 10 + level)
        share = count // 5 if level < 4 else count // 9
        wide = (13.0, 8.0, 5.0, 3.2, 2.2)[level]
        strands = [strand(lines, chance) for _ in range(share)]
        layer = drawn(size, lambda pen, k, s=strands, w=wide: tapered(pen, s, k, w), scale=2)
        colour = tint(colour, rgb, layer * solid)
    return colour


def strand(lines: Sequence[Sequence[Point]], chance: random.Random) -> list[Point]:
    at = chance.random() * (len(lines) - 1.001)
    low = int(at)
    part, phase, sway = at - low, chance.random() * math.tau, chance.gauss(0, 1)
    length = chance.uniform(0.6, 1.0)
    first, second = lines[low], lines[low + 1]
    points: list[Point] = []
    steps = round(len(first) * length)
    for index in range(steps):
        (ax, ay), (bx, by) = first[index], second[index]
        loose = (index / len(first)) ** 1.4
        wave = loose * (26 * sway + 20 * math.sin(phase + index * 0.16))
        points.append((ax + (bx - ax) * part + wave * 0.35, ay + (by - ay) * part + wave))
    return points


def tapered(pen: ImageDraw.ImageDraw, strands: Iterable[Sequence[Point]], k: float, width: float) -> None:
    for points in strands:
        for index, (before, after) in enumerate(zip(points, points[1:], strict=False)):
            thick = width * k * (1 - 0.85 * index / len(points))
            pen.line([(before[0] * k, before[1] * k), (after[0] * k, after[1] * k)], fill=255, width=max(1, round(thick)))


def bubbles(colour: Colour) -> Colour:
    size = colour[0].size
    chance = random.Random(88)
    rings = [(chance.uniform(90, 420), chance.uniform(120, 900), chance.uniform(4, 22)) for _ in range(26)]

    def draw_rims(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in rings:
            pen.ellipse(((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k), outline=255, width=round(k * max(1.2, r / 9)))

    def draw_glints(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in rings:
            gx, gy, g = x - r * 0.4, y - r * 0.4, max(1.0, r * 0.2)
            pen.ellipse(((gx - g) * k, (gy - g) * k, (gx + g) * k, (gy + g) * k), fill=255)

    colour = lighten(colour, (0.45, 0.60, 0.60), drawn(size, draw_rims).blur(0.8) * 0.55)
    colour = lighten(colour, (0.9, 0.95, 0.9), drawn(size, draw_glints).blur(0.8))
    motes = [(chance.uniform(0, size[0]), chance.uniform(0, size[1]), chance.uniform(1, 3.2)) for _ in range(170)]

    def draw_motes(pen: ImageDraw.ImageDraw, k: float) -> None:
        for x, y, r in motes:
            pen.ellipse(((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k), fill=255)

    return lighten(colour, (0.30, 0.42, 0.42), drawn(size, draw_motes).blur(1.6) * 0.7)


def main(folder: Path) -> None:
    pictures = {"dusk-sea.jpg": dusk_sea, "underwater-portrait.jpg": underwater_portrait}
    folder.mkdir(parents=True, exist_ok=True)
    for name, paint in pictures.items():
        path = folder / name
        paint().save(path, quality=85, optimize=True, progressive=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("wiro_async/sandbox/images"))
