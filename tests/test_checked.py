"""The same mistakes, by whichever way a job comes: refused in the same words, before anything is uploaded."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_tools import DIRECTOR, Wiro, name_in_environment, secrets_of
from wiro_async import Client, InvalidInput, Job
from wiro_async.sandbox import Sandbox

KLING = "klingai/image-to-video-klingai-v1.6"
HAILUO = "MiniMax/hailuo-2.3-Fast"
SUBJECT = "MiniMax/image-to-video-hailuo-01-subject"
WORDS_ONLY = "MiniMax/text-to-video-hailuo-01"
PRUNA = "pruna/p-video"
SORA = "openai/sora-2"
FLUX = "black-forest-labs/FLUX.1-Krea-dev"
SEEDANCE = "bytedance/seedance-2-0"
ESRGAN = "xinntao/Real-ESRGAN"

URL = "https://example.org/a.jpg"
IMAGE = {"inputImageUrl": URL}
FIRST = {"inputImageFirstUrl": URL}
PROMPT = {"prompt": "waves roll in"}
NO_FILE = "it takes a file: give a URL, or pathlib.Path(...) for a local file"
AS_IT_IS = "a text is sent as it is; give a URL, or pathlib.Path(...) for a local file"
NO_TEXT = "it takes a text, and would get the address of an upload: give the text itself"


def png(width: int, height: int) -> bytes:
    """Return the beginning of a picture."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\2\0\0\0"


def gif(width: int, height: int) -> bytes:
    """Return the beginning of a picture."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


FILES = {
    "words.txt": b"waves",
    "empty.jpg": b"",
    "small.png": png(300, 400),
    "wide.png": png(1000, 399),
    "tall.gif": gif(399, 1000),
    "tiny.gif": gif(16, 16),
}

MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    # names
    (KLING, {**FIRST, "negativePromt": "rain"}, "'negativePromt' is no input of klingai/image-to-video-kl"),
    (KLING, {**FIRST, "negative_prompt": "rain"}, "did you mean 'negativePrompt'?"),
    (KLING, {**FIRST, "videoSecond": "5"}, "did you mean 'videoSeconds'?"),
    (KLING, {**FIRST, "video_mode": "std"}, "did you mean 'videoMode'?"),
    (KLING, {**PROMPT, "inputImageFirstURL": URL}, "did you mean 'inputImageFirstUrl'?"),
    (
        DIRECTOR,
        {**FIRST, "promt": "waves"},
        "'promt' is no input of MiniMax/image-to-video-01-director; did ",
    ),
    (DIRECTOR, {**FIRST, "Prompt": "waves"}, "did you mean 'prompt'?"),
    (PRUNA, {**PROMPT, "resolutions": "720p"}, "did you mean 'resolution'?"),
    (PRUNA, {**PROMPT, "durations": 5}, "did you mean 'duration'?"),
    (FLUX, {**PROMPT, "step": 5}, "did you mean 'steps'?"),
    (FLUX, {**PROMPT, "sample": 1}, "did you mean 'samples'?"),
    (HAILUO, {**IMAGE, "promptOptimiser": "true"}, "did you mean 'promptOptimizer'?"),
    # kinds
    (FLUX, {**PROMPT, "steps": "many"}, "'steps' is 'many'; it must be a number between 1 and 500"),
    (FLUX, {**PROMPT, "steps": True}, "'steps' is True; it must be a number between 1 and 500"),
    (FLUX, {**PROMPT, "steps": {"a": 1}}, "'steps' is a dict; it must be a number between 1 and 500"),
    (FLUX, {**PROMPT, "steps": [1, 2]}, "'steps' is a list of 2; it takes one value"),
    (FLUX, {"prompt": {"text": "waves"}}, "'prompt' is a dict; it takes a text"),
    (KLING, {**FIRST, "scale": "strong"}, "'scale' is 'strong'; it must be a number"),
    (ESRGAN, {**IMAGE, "faceEnhance": "maybe"}, "'faceEnhance' is 'maybe'; it must be true or false"),
    (ESRGAN, {**IMAGE, "faceEnhance": 7}, "'faceEnhance' is 7; it must be true or false"),
    (HAILUO, {"inputImageUrl": "a woman at the sea"}, NO_FILE),
    (HAILUO, {"inputImageUrl": True}, f"'inputImageUrl' is True; {NO_FILE}"),
    (HAILUO, {"inputImageUrl": {"url": URL}}, f"'inputImageUrl' is a dict; {NO_FILE}"),
    (HAILUO, {**IMAGE, "duration": {"seconds": 6}}, "'duration' is a dict; it must be one of '10', '6'"),
    # ranges and steps
    (FLUX, {**PROMPT, "steps": 0}, "'steps' is 0; it must be between 1 and 500"),
    (FLUX, {**PROMPT, "steps": "501"}, "'steps' is '501'; it must be between 1 and 500"),
    (
        FLUX,
        {**PROMPT, "steps": 2.5},
        "'steps' is 2.5; it must be a whole number between 1 and 500, such as 2",
    ),
    (FLUX, {**PROMPT, "samples": 9}, "'samples' is 9; it must be between 1 and 8"),
    (FLUX, {**PROMPT, "width": -1}, "'width' is -1; it must be between 0 and 2048"),
    (FLUX, {**PROMPT, "height": 4096}, "'height' is 4096; it must be between 0 and 2048"),
    (PRUNA, {**PROMPT, "duration": 11}, "'duration' is 11; it must be between 1 and 10"),
    (PRUNA, {**PROMPT, "duration": "0"}, "'duration' is '0'; it must be between 1 and 10"),
    (SEEDANCE, {**PROMPT, "seed": -1}, "'seed' is -1; it must be at least 0"),
    # choices
    (KLING, {**FIRST, "videoSeconds": 6}, "'videoSeconds' is 6; it must be one of '10', '5'"),
    (KLING, {**FIRST, "videoMode": "fast"}, "'videoMode' is 'fast'; it must be one of 'pro', 'std'"),
    (PRUNA, {**PROMPT, "resolution": "1080i"}, "did you mean '1080p'?"),
    (PRUNA, {**PROMPT, "ratio": "16:10"}, "'ratio' is '16:10'; it must be one of '1:1', '3:2'"),
    (PRUNA, {**PROMPT, "fps": 30}, "'fps' is 30; it must be one of '24', '48'"),
    (PRUNA, {**PROMPT, "draft": "maybe"}, "'draft' is 'maybe'; it must be one of 'true', 'false'"),
    (HAILUO, {**IMAGE, "resolution": "720P"}, "'resolution' is '720P'; it must be one of '1080P', '768P'"),
    (SORA, {**PROMPT, "seconds": 5}, "'seconds' is 5; it must be one of '4', '8', '12'"),
    (SORA, {**PROMPT, "ratio": "square"}, "'ratio' is 'square'; it must be one of '16:9', '9:16', 'auto'"),
    # what is missing or empty
    (HAILUO, PROMPT, "'inputImageUrl' (Input Image URL) is missing; MiniMax/hailuo-2.3-Fast needs a file"),
    (HAILUO, {"inputImageUrl": ""}, "'inputImageUrl' (Input Image URL) is missing"),
    (HAILUO, {"inputImageUrl": [], "inputImage": ""}, "'inputImageUrl' (Input Image URL) is missing"),
    (WORDS_ONLY, {"prompt": ""}, "'prompt' is empty; say what is to be made"),
    (FLUX, {"prompt": ""}, "'prompt' is empty; say what is to be made"),
    (DIRECTOR, {**FIRST, "prompt": "   "}, "'prompt' is empty; say what is to be made"),
    (SORA, {"prompt": "\n"}, "'prompt' is empty; say what is to be made"),
    # files and texts
    (DIRECTOR, {**PROMPT, "inputImageFirstUrl": "@photo.jpg"}, "give pathlib.Path('photo.jpg') for a local"),
    (HAILUO, {"inputImageUrl": "@in/photo.jpg"}, "give pathlib.Path('in/photo.jpg') for a local file"),
    (DIRECTOR, {**FIRST, "prompt": "@words.txt"}, "only job files and the command line know @"),
    (HAILUO, {"inputImageUrl": "photo.jpg"}, f"'inputImageUrl' is 'photo.jpg'; {AS_IT_IS}"),
    (KLING, {"inputImageLast": "./in/photo.PNG"}, f"'inputImageLast' is './in/photo.PNG'; {AS_IT_IS}"),
    (DIRECTOR, {**FIRST, "prompt": Path("words.txt")}, f"'prompt' is a local file; {NO_TEXT}"),
    (KLING, {**FIRST, "negativePrompt": Path("words.txt")}, f"'negativePrompt' is a local file; {NO_TEXT}"),
    (FLUX, {**PROMPT, "steps": Path("words.txt")}, "'steps' is a local file; it must be a number"),
    (DIRECTOR, {**PROMPT, "inputImageFirstUrl": Path("none.jpg")}, "none.jpg' cannot be read: No such file"),
    (DIRECTOR, {**PROMPT, "inputImageUrl": Path("empty.jpg")}, "'inputImageUrl' cannot be uploaded: 'empty"),
    (
        PRUNA,
        {**PROMPT, "inputImage": [Path("tiny.gif"), Path()]},
        "is not a regular file; give an image file",
    ),
    # sizes
    (DIRECTOR, {**PROMPT, "inputImage": Path("small.png")}, "'inputImage' is an image of 300 x 400 pixels; "),
    (
        DIRECTOR,
        {**PROMPT, "inputImageUrl": Path("wide.png")},
        "takes images of an aspect between 2:5 and 5:2",
    ),
    (SUBJECT, {**PROMPT, "inputImageUrl": Path("tall.gif")}, "takes images of an aspect between 2:5 and 5:2"),
    (SUBJECT, {**PROMPT, "inputImageUrl": Path("tiny.gif")}, "whose short side is above 300: send a larger"),
    # several at once
    (
        KLING,
        {**FIRST, "promt": "rain", "videoSeconds": 7, "videoMode": "fast"},
        "did you mean 'prompt'?; 'videoSeconds' is 7; it must be one of '10', '5'; 'videoMode' is 'fast'; ",
    ),
]

each_mistake = pytest.mark.parametrize(("model", "inputs", "words"), MISTAKES)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Run the service; nothing was made and nothing was uploaded in the end."""
    with Sandbox(render=False) as running:
        yield running
        ledger = running.ledger()
        assert ledger["tasks"] == []
        assert ledger["paid"] == 0
        assert set(ledger["requests"]) == {"Tool/Detail"}


@pytest.fixture(autouse=True)
def folder(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the files, and work there."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    name_in_environment(sandbox, monkeypatch)
    return tmp_path


@pytest.fixture
def wiro(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> Wiro:
    """The command line."""
    return Wiro(capsys, lambda: secrets_of(sandbox))


def placed(value: Any, folder: Path) -> Any:
    """Return an input with its files in a folder: job files and programs may have different ones."""
    if isinstance(value, list):
        return [placed(item, folder) for item in value]
    return folder / value if isinstance(value, Path) else value


def words_of(name: str, value: Any) -> list[str]:
    """Return an input as the command line takes it."""
    if isinstance(value, list) and value and isinstance(value[0], Path):
        return [word for item in value for word in words_of(name, item)]
    if isinstance(value, Path):
        return ["-i", f"{name}=@{value}"]
    is_plain = isinstance(value, str) and not value.startswith("@")
    return ["-i", f"{name}={value}" if is_plain else f"{name}:={json.dumps(value)}"]


def cell_of(value: Any) -> Any:
    """Return an input as a job file has it."""
    if isinstance(value, list):
        return [cell_of(item) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return f"@{value}"
    return f"@{value}" if isinstance(value, Path) else value


async def _refusals(job: Job) -> list[str]:
    """Return what is said of a job by each method that makes it."""
    told = []
    async with Client() as client:
        for method in (client.submit, client.run):
            with pytest.raises(InvalidInput) as caught:
                await method(job.model or "", job.inputs)
            told.append(caught.value.message)
        async with client.batch([job]) as batch:
            async for outcome in batch:
                assert isinstance(outcome.error, InvalidInput)
                told.append(outcome.error.message)
        told.append("; ".join((await client.check(job.model or "", job.inputs)).problems))
    return told


@each_mistake
def test_a_mistake_is_refused_by_the_same_words_whichever_way_it_comes(
    model: str, inputs: dict[str, Any], words: str, folder: Path, wiro: Wiro
) -> None:
    """``submit``, ``run``, a batch, ``check``, ``wiro run`` and ``wiro batch``."""
    inputs = {name: placed(value, folder) for name, value in inputs.items()}
    first, *others = asyncio.run(_refusals(Job(model, inputs)))
    assert words in first
    assert others == [first] * 3
    given = [word for name, value in inputs.items() for word in words_of(name, value)]
    assert problems(wiro("run", model, *given, code=2).err)[-1] == " ".join(first.split())
    row = {"model": model, "inputs": {name: cell_of(value) for name, value in inputs.items()}}
    Path("jobs.jsonl").write_text(json.dumps(row))
    said = wiro("batch", "jobs.jsonl", "--json", code=2)
    assert [invalid["reason"] for invalid in said.records[0]["invalid"]] == [first]


def problems(err: str) -> list[str]:
    """Return the problems that a command told, but for notes."""
    return [line.removeprefix("wiro: ") for line in err.splitlines() if "wiro: note: " not in line]


def test_there_are_sixty_of_them() -> None:
    """Of each kind some."""
    assert len(MISTAKES) >= 60
