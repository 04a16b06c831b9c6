"""Clips are real videos of the given image, and images that break a rule are refused."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from itertools import pairwise

import av
import pytest
from PIL import Image, ImageDraw

from wiro_async.sandbox import _render
from wiro_async.sandbox._camera import Camera, Window
from wiro_async.sandbox._render import FPS, MAX_PIXELS, ImageRejected, render_clip

RED = (230, 30, 30)
SHORT = 0.5


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:  # noqa: A002 - Pillow's word
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def marked(size: tuple[int, int] = (400, 400), at: tuple[float, float] = (0.5, 0.5)) -> bytes:
    """A grey image with a red square around a point (fractions of the image)."""
    picture = Image.new("RGB", size, (60, 60, 60))
    x, y, half = size[0] * at[0], size[1] * at[1], max(size) * 0.04
    ImageDraw.Draw(picture).rectangle((x - half, y - half, x + half, y + half), fill=RED)
    return encoded(picture)


def decoded(clip: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(clip), "r") as container:
        # PyAV leaves this method without types.
        return [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]


def marker(frame: Image.Image) -> tuple[float, float, float]:
    """The red square's centre and width, in fractions of the frame."""
    red, green, _ = frame.split()
    left, top, right, bottom = found(Image.composite(red, Image.new("L", frame.size), green.point(under_90)))
    width, height = frame.size
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width


def under_90(value: int) -> int:
    return 255 * (value < 90)


def found(reds: Image.Image) -> tuple[int, int, int, int]:
    box = reds.point(lambda value: 255 * (value > 140)).getbbox()
    assert box is not None, "the marker left the frame"
    return box


def seen(window: Window, at: tuple[float, float]) -> tuple[float, float]:
    return (at[0] - window.left) / window.width, (at[1] - window.top) / window.height


def mean(frame: Image.Image) -> tuple[float, ...]:
    small = frame.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(small, tuple)
    return small


def boxes(clip: bytes) -> list[str]:
    """The names of the file's outermost boxes (ISO 14496-12, §4.2)."""
    names, start = [], 0
    while start < len(clip):
        length, name = struct.unpack_from(">I4s", clip, start)
        names.append(name.decode())
        start += length
    return names


# ------------------------------------------------------------------------------------------- the file
def test_clip_is_a_playable_six_second_video() -> None:
    """A clip is H.264 in MP4, 144 frames at 24 a second, of even sides and of the image's aspect."""
    clip = render_clip(marked((600, 400)), "[Pan left] a portrait photo of a woman")
    with av.open(io.BytesIO(clip), "r") as container:
        assert "mp4" in container.format.name
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == FPS
        assert (context.width, context.height) == (672, 448)
        assert (stream.duration or 0) * (stream.time_base or 0) == 6
        assert stream.start_time == 0
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([index / FPS for index in range(144)])


def test_index_comes_before_the_data() -> None:
    """A player can start before the whole file has arrived."""
    names = boxes(render_clip(marked(), "", seconds=SHORT))
    assert names.index("moov") < names.index("mdat")
    assert names[0] == "ftyp"


def test_same_inputs_give_the_same_file() -> None:
    """A clip depends on its inputs alone; the seed turns the default drift, not a named move."""
    image = marked()
    digests = [
        hashlib.sha256(render_clip(image, prompt, seconds=SHORT, seed=seed)).hexdigest()
        for prompt, seed in (("", 3), ("", 3), ("", 4), ("[Zoom in]", 3), ("[Zoom in]", 4))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert digests[2] != digests[3] == digests[4]


@pytest.mark.parametrize(
    ("size", "clip"),
    [
        ((301, 301), (640, 640)),
        ((800, 320), (768, 308)),
        ((320, 800), (308, 768)),
        ((700, 525), (640, 480)),
        ((525, 700), (480, 640)),
        ((960, 540), (736, 414)),
    ],
)
def test_clip_keeps_the_aspect(size: tuple[int, int], clip: tuple[int, int]) -> None:
    """The clip has even sides within a pixel of the image's aspect, whatever the padding of its rows."""
    frames = decoded(render_clip(encoded(Image.new("RGB", size, RED)), "", seconds=0.1))
    assert frames[0].size == clip
    assert abs(clip[1] - clip[0] * size[1] / size[0]) <= 1 or abs(clip[0] - clip[1] * size[0] / size[1]) <= 1
    assert mean(frames[-1]) == pytest.approx(RED, abs=4)


def test_shortest_clip_has_one_frame() -> None:
    """A clip shorter than a frame is one frame."""
    assert len(decoded(render_clip(marked(), "[Zoom in]", seconds=0.01))) == 1


def test_clip_must_last() -> None:
    """A length that is not positive is refused."""
    with pytest.raises(ValueError, match="seconds is 0"):
        render_clip(marked(), "", seconds=0)


def test_without_x264_the_clip_is_mpeg4() -> None:
    """A build of PyAV without libx264 still makes a video of the same length."""
    size = _render._Size(640, 640)
    picture = Image.new("YCbCr", (640, 640), (100, 128, 128))
    frames = _render._frames(picture, [Window(0.0, 0.0, 1.0, 1.0)] * 12, size)
    clip = _render._encoded(frames, size, 12, {"absent": {}, "mpeg4": {"b": "1000k"}})
    with av.open(io.BytesIO(clip), "r") as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(container.decode(video=0))) == 12
    assert boxes(clip).index("moov") < boxes(clip).index("mdat")


def test_without_any_encoder_the_error_says_what_to_install() -> None:
    """A build without a usable encoder is named as the trouble."""
    with pytest.raises(RuntimeError, match=r"without any of absent, missing: install"):
        _render._available(["absent", "missing"])


# ----------------------------------------------------------------------------------------- the motion
@pytest.mark.parametrize(
    "move",
    [
        "[Pan left]",
        "[Pan right]",
        "[Tilt up]",
        "[Tilt down]",
        "[Zoom in]",
        "[Zoom out]",
        "[Pan left, Zoom in]",
    ],
)
def test_frames_show_the_cameras_windows(move: str) -> None:
    """In the first, the middle and the last frame a marker stands where the crop window puts it."""
    at = (0.47, 0.53)
    frames = decoded(render_clip(marked((400, 320), at), move, seconds=SHORT))
    camera = Camera.from_prompt(move, seconds=SHORT)
    assert len(frames) == 12
    for index in (0, 6, 11):
        x, y, width = marker(frames[index])
        window = camera.window(index * SHORT / 11)
        assert (x, y) == pytest.approx(seen(window, at), abs=0.006)
        assert width == pytest.approx(0.08 / window.width, abs=0.012)


def test_pan_left_moves_the_content_right() -> None:
    """When the camera turns left, things wander to the right, steadily."""
    across = [marker(frame)[0] for frame in decoded(render_clip(marked(), "[Pan left]", seconds=SHORT))]
    assert all(a <= b + 0.002 for a, b in pairwise(across))
    assert across[-1] - across[0] > 0.2


def test_moves_play_in_the_order_of_the_prompt() -> None:
    """First the pan with a constant size, then the zoom with growing things."""
    found = [marker(frame) for frame in decoded(render_clip(marked(), "[Pan left] [Zoom in]", seconds=1.0))]
    across, widths = [place[0] for place in found], [place[2] for place in found]
    assert across[11] - across[0] > 0.2
    assert widths[11] == pytest.approx(widths[0], abs=0.006)
    assert widths[-1] > widths[12] * 1.3


def test_slow_motion_is_finer_than_a_pixel() -> None:
    """The default move creeps: the crop follows in steps of less than a pixel, so nothing stutters."""
    frames = decoded(render_clip(marked(), "", seconds=2.0))
    picture = [frame.convert("L").resize((64, 64), Image.Resampling.BOX).tobytes() for frame in frames]
    changed = sum(a != b for a, b in pairwise(picture))
    assert changed > 40


# ----------------------------------------------------------------------------------- kinds of images
@pytest.mark.parametrize(
    ("mode", "format"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG")]
)
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_any_colour_model(mode: str, format: str, progressive: bool) -> None:  # noqa: A002 - Pillow's word
    """JPEGs in colour, grey and CMYK come out in their colours."""
    colour = (150, 150, 150) if mode == "L" else (200, 120, 60)
    picture = Image.new("RGB", (320, 320), colour).convert(mode)
    frames = decoded(render_clip(encoded(picture, format, progressive=progressive), "", seconds=0.1))
    assert mean(frames[0]) == pytest.approx(colour, abs=6)


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (Image.new("1", (320, 320), 1), (255, 255, 255)),
        (Image.new("RGB", (320, 320), (200, 120, 60)).quantize(4), (200, 120, 60)),
        (Image.new("I;16", (320, 320), 40_000), (156, 156, 156)),
        (Image.new("RGBA", (320, 320), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (320, 320), (200, 0, 0, 128)), (227, 127, 127)),
        (Image.new("LA", (320, 320), (0, 128)), (127, 127, 127)),
    ],
    ids=["bilevel", "palette", "16 bits", "transparent", "translucent", "grey translucent"],
)
def test_pngs_of_any_mode(picture: Image.Image, colour: tuple[int, int, int]) -> None:
    """Every kind of PNG is converted, and transparency is laid on white."""
    frames = decoded(render_clip(encoded(picture), "", seconds=0.1))
    assert mean(frames[0]) == pytest.approx(colour, abs=4)


def test_transparent_palette_is_laid_on_white() -> None:
    """A palette with a transparent entry is flattened too."""
    picture = Image.new("P", (320, 320), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    frames = decoded(render_clip(encoded(picture, transparency=1), "", seconds=0.1))
    assert mean(frames[0]) == pytest.approx((255, 255, 255), abs=4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_honoured(format: str) -> None:  # noqa: A002 - Pillow's word
    """A photograph taken with the camera turned is shown upright, in every format that can say so."""
    picture = Image.new("RGB", (600, 400), (60, 60, 60))
    picture.paste(RED, (0, 0, 600, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to display": the stored top is the right
    (frame, *_) = decoded(render_clip(encoded(picture, format, exif=exif), "[Static shot]", seconds=0.1))
    assert frame.size == (448, 672)
    assert mean(frame.crop((236, 0, 448, 672))) == pytest.approx(RED, abs=8)
    assert mean(frame.crop((0, 0, 212, 672))) == pytest.approx((60, 60, 60), abs=8)


def test_large_jpeg_is_reduced_while_it_is_decoded() -> None:
    """An image much larger than the clip keeps its aspect and its content."""
    picture = Image.new("RGB", (3600, 2401), (60, 60, 60))
    picture.paste(RED, (1800, 0, 3600, 2401))
    (frame, *_) = decoded(render_clip(encoded(picture, "JPEG"), "[Static shot]", seconds=0.1))
    assert frame.size == (672, 448)
    assert mean(frame.crop((340, 0, 672, 448))) == pytest.approx(RED, abs=6)


# ---------------------------------------------------------------------------------------- rejections
def header_only(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ((300, 600), r"300x600: the short side must be above 300 px"),
        ((16, 16), r"16x16: the short side must be above 300 px"),
        ((803, 321), r"803x321, aspect 2\.50: the aspect must be between 2:5 \(0\.40\) and 5:2 \(2\.50\)"),
        ((301, 753), r"301x753, aspect 0\.40: the aspect must be between"),
    ],
)
def test_sizes_that_the_service_does_not_take(size: tuple[int, int], rule: str) -> None:
    """The message names the value and the rule that it breaks."""
    with pytest.raises(ImageRejected, match=rule):
        render_clip(encoded(Image.new("L", size)), "")


def test_bounds_of_the_rules_are_inside() -> None:
    """The smallest side and the extreme aspects themselves are taken."""
    for size in ((301, 301), (800, 320), (320, 800)):
        assert render_clip(encoded(Image.new("L", size)), "", seconds=0.01)


@pytest.mark.parametrize("side", [7_100, 9_600, 14_000, 65_000])
def test_absurd_sizes_are_refused_before_decoding(side: int) -> None:
    """Too many pixels are refused by the header alone, beyond the sandbox's bound and Pillow's two."""
    with pytest.raises(ImageRejected, match=f"at most {MAX_PIXELS} "):
        render_clip(header_only(side, side), "")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillows_warning_is_not_needed() -> None:
    """Where warnings are not errors the size is refused all the same."""
    with pytest.raises(ImageRejected, match=f"9600x9600: at most {MAX_PIXELS} pixels"):
        render_clip(header_only(9_600, 9_600), "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 400 400\n",
        header_only(400, 400),
        encoded(Image.linear_gradient("L").resize((400, 400)), "JPEG")[:-400],
        encoded(Image.linear_gradient("L").resize((400, 400)))[:-200],
    ],
    ids=["empty", "text", "PostScript", "header", "cut JPEG", "cut PNG"],
)
def test_unreadable_data_is_refused(data: bytes) -> None:
    """What is no image, or not the whole of one, is refused with the formats that are taken."""
    with pytest.raises(
        ImageRejected, match=rf"unreadable \({len(data)} bytes, \w+\): send a complete JPEG, PNG"
    ):
        render_clip(data, "")
