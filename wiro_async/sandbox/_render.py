"""Render a real clip: the image, filmed along the prompt's camera moves.

Blocking and CPU-bound: call it in a worker thread. It works frame by frame, and Pillow's resampling and
the encoder release the GIL, so an event loop beside it keeps turning.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import av
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageFilter, ImageOps

from wiro_async.sandbox._camera import Camera, Window
from wiro_async.sandbox._media import ImageRejected

if TYPE_CHECKING:
    from av.video.stream import VideoStream

__all__ = ["FPS", "ImageRejected", "render_clip"]

FPS: Final = 24

MIN_ASPECT: Final = Fraction(2, 5)
MAX_ASPECT: Final = Fraction(5, 2)
MIN_SHORT_SIDE: Final = 300
"""The Hailuo family takes images of an aspect from 2:5 to 5:2 with a short side above 300 px."""

MAX_PIXELS: Final = 50_000_000
"""The sandbox's own bound, below Pillow's: decoding more would cost seconds and hundreds of megabytes."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # never EPS: it would start Ghostscript
_PIXELS: Final = 300_000  # a frame's area, where its long side stays within the bounds below
_LONG_SIDES: Final = (640, 768)
_Encoders = Mapping[str, Mapping[str, str]]
_ENCODERS: Final[_Encoders] = {
    # cpu-independent: without it the last bits, and so the file, depend on where the frames lie in memory.
    "libx264": {"preset": "veryfast", "crf": "23", "x264-params": "cpu-independent=1:subme=1:rc-lookahead=5"},
    "mpeg4": {"b": "2500k"},
}


class _Size(NamedTuple):
    width: int
    height: int


def render_clip(image: bytes, prompt: str, *, seconds: float = 6.0, seed: int = 0) -> bytes:
    """Film an image along the prompt's camera moves.

    Args:
        image: The content of an image file (JPEG, PNG, WebP, GIF, BMP or TIFF).
        prompt: The prompt; its bracketed moves are honoured, see ``_camera``.
        seconds: The clip's length. The service's Hailuo 01 family makes 6 s.
        seed: Chooses the direction in which the default move drifts.

    Returns:
        An MP4 (H.264, yuv420p, 24 frames a second, index first) of the image's aspect. The same inputs
        give the same bytes on the same build.

    Raises:
        ImageRejected: The data is no readable image, or the image breaks a rule of the service.
        ValueError: `seconds` is not positive.
    """
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds}: a clip lasts longer than 0 s")
    camera = Camera.from_prompt(prompt, seconds=seconds, seed=seed)
    picture, size = _prepared(image, camera.narrowest)
    count = max(1, round(seconds * FPS))
    step = seconds / max(1, count - 1)
    windows = (camera.window(index * step) for index in range(count))
    return _encoded(_frames(picture, windows, size), size, count, _ENCODERS)


def _prepared(data: bytes, narrowest: float) -> tuple[Image.Image, _Size]:
    """Decode, check and shrink the image to about the resolution that the narrowest window needs."""
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRejected(
            f"image has too many pixels: at most {MAX_PIXELS} are taken, send a smaller one"
        ) from error
    except Exception as error:
        raise _unreadable(data, error) from error
    stored = _Size(*picture.size)
    _check(stored)
    size = _clip_size(stored)
    # About one pixel for each of the clip's in the narrowest window keeps it sharp; more only costs time.
    longest = math.ceil(min(1.5, 1.05 / narrowest) * max(size))
    try:
        upright = _decoded(picture, longest)
    except Exception as error:
        raise _unreadable(data, error) from error
    turned = (upright.width < upright.height) != (stored.width < stored.height)
    return _video_range(_shrunk(upright, longest)), _Size(*reversed(size)) if turned else size


def _unreadable(data: bytes, error: Exception) -> ImageRejected:
    # Pillow's decoders answer broken data with errors of a dozen types: any of them means the same here.
    return ImageRejected(
        f"image is unreadable ({len(data)} bytes, {type(error).__name__}): "
        f"send a complete {', '.join(_FORMATS)} file"
    )


def _check(size: _Size) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageRejected(
            f"image is {width}x{height}: at most {MAX_PIXELS} pixels are taken, send a smaller one"
        )
    if min(size) <= MIN_SHORT_SIDE:
        raise ImageRejected(
            f"image is {width}x{height}: the short side must be above {MIN_SHORT_SIDE} px, send a larger one"
        )
    if not MIN_ASPECT <= Fraction(width, height) <= MAX_ASPECT:
        raise ImageRejected(
            f"image is {width}x{height}, aspect {width / height:.2f}: "
            "the aspect must be between 2:5 (0.40) and 5:2 (2.50), crop it"
        )


def _clip_size(source: _Size) -> _Size:
    """Choose even sides of the source's aspect: about 300 000 pixels, the long side 640 to 768."""
    ratio = max(source) / min(source)
    low, high = _LONG_SIDES
    long = min(max(round(math.sqrt(_PIXELS * ratio) / 16) * 16, low), high)
    short = round(long / ratio / 2) * 2
    return _Size(long, short) if source.width >= source.height else _Size(short, long)


def _decoded(picture: Image.Image, longest: int) -> Image.Image:
    """Decode to upright RGB, or RGBA where there is transparency."""
    picture.draft("RGB", (longest, longest))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 at once
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip, not scale
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _shrunk(picture: Image.Image, longest: int) -> Image.Image:
    scale = min(1.0, longest / max(picture.size))
    target = (math.ceil(picture.width * scale), math.ceil(picture.height * scale))
    small = picture.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", target, "white"), small).convert("RGB")
    # Filming resamples with a triangle, which softens: sharpen by about as much beforehand.
    return small.filter(ImageFilter.UnsharpMask(radius=1.0, percent=60, threshold=0))


def _video_range(picture: Image.Image) -> Image.Image:
    """Convert to YCbCr as video stores it (ITU-R BT.601: luma 16 to 235, chroma 16 to 240)."""
    luma = [round(16 + value * 219 / 255) for value in range(256)]
    chroma = [round(128 + (value - 128) * 224 / 255) for value in range(256)]
    return picture.convert("YCbCr").point(luma + chroma + chroma)


def _frames(picture: Image.Image, windows: Iterable[Window], size: _Size) -> Iterator[av.VideoFrame]:
    """Film the windows. Luma and the half-size chroma are resampled apart: half the work of doing RGB."""
    channels = picture.split()
    half = _Size(size.width // 2, size.height // 2)
    for index, window in enumerate(windows):
        left, top = window.left * picture.width, window.top * picture.height
        box = (left, top, left + window.width * picture.width, top + window.height * picture.height)
        frame = av.VideoFrame(size.width, size.height, "yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        for channel, plane, sides in zip(channels, frame.planes, (size, half, half), strict=True):
            sampled = channel.resize(sides, Image.Resampling.BILINEAR, box=box)
            padded = sampled.crop((0, 0, plane.line_size, sides.height))
            plane.update(padded.tobytes())
        yield frame


def _encoded(frames: Iterable[av.VideoFrame], size: _Size, count: int, encoders: _Encoders) -> bytes:
    name = _available(encoders)
    file = io.BytesIO()
    # Space for the index is set aside in front: "+faststart" would have to read the file again by its name.
    options = {"moov_size": str(4096 + 64 * count), "fflags": "+bitexact"}
    with av.open(file, "w", format="mp4", options=options) as container:
        stream = cast("VideoStream", container.add_stream(name, rate=FPS, options=dict(encoders[name])))
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # leaves the other cores to the server
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU601
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _available(encoders: Iterable[str]) -> str:
    """Pick the first encoder that this build of PyAV has."""
    for name in encoders:
        try:
            av.Codec(name, "w")
        except UnknownCodecError:
            continue
        return name
    raise RuntimeError(
        f"PyAV was built without any of {', '.join(encoders)}: install the wheel of the package av"
    )
