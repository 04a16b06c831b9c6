"""File names and file types: nothing leaves a folder, breaks a header or takes another file's name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import Output
from wiro_async._files.naming import extension_by, folder_names, safe_name, upload_name


def output(**fields: Any) -> Output:
    """Return an output as a task has it."""
    facts: dict[str, Any] = {"name": "0.mp4", "content_type": "video/mp4", "task_id": "2221", **fields}
    return Output(url="https://cdn1.wiro.ai/uploads/0.mp4", **facts)


# -- in a folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "0.mp4"}, "2221_0.mp4"),
        ({"name": "My clip (1).final, v2+=@.mp4"}, "2221_My clip (1).final, v2+=@.mp4"),
        ({"name": "çiçek.mp4"}, "2221_çiçek.mp4"),
        ({"name": "日本.mp4"}, "2221_日本.mp4"),
        ({"name": "noextension"}, "2221_noextension"),
        ({"name": "x" * 60 + ".mp4"}, "2221_" + "x" * 60 + ".mp4"),
        ({"name": ""}, "2221_0.mp4"),
        ({"name": " . "}, "2221_0.mp4"),
        ({"name": "...", "index": 3, "content_type": "image/png"}, "2221_3.png"),
        ({"name": "", "content_type": "x/unknown"}, "2221_0.bin"),
        ({"name": "0.mp4", "task_id": ""}, "0.mp4"),
        ({"name": "con", "task_id": ""}, "_con"),
        ({"name": "NUL.txt", "task_id": ""}, "_NUL.txt"),
        ({"name": "com1.mp4", "task_id": ""}, "_com1.mp4"),
        ({"name": "CON"}, "2221_CON"),
        ({"name": "0.mp4", "task_id": "../../x"}, "______x_0.mp4"),
        ({"name": "0.mp4", "task_id": "1" * 100}, "1" * 60 + "_0.mp4"),
    ],
)
def test_names_in_a_folder(fields: dict[str, Any], expected: str) -> None:
    """A harmless name is kept, after the task's id; a missing one is made of the output's place."""
    assert safe_name(output(**fields)) == expected


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a\r\nb.mp4", "a__b"), ("a:b.mp4", "a_b"), ("~root.mp4", "_root"), ("a*?<>|\".mp4", "a______"),
        ("\u202egpj.exe", "_gpj"), ("a\x01b.mp4", "a_b"), (".hidden", "hidden"),
        ("trailing. ", "trailing"), ("%2e%2e%2fx", "_2e_2e_2fx"), ("$(rm -rf).mp4", "_(rm -rf)"),
        ("x" * 300 + ".mp4", "x" * 51), ("日" * 100 + ".mp4", "日" * 17), ("\ud800.mp4", "_"),
        ("a." + "x" * 300, "a." + "x" * 49), ("x.日本語日本語", None), ("\U0001d400" * 80, "\U0001d400" * 12),
    ],
)  # fmt: skip
def test_names_that_are_mended_stay_distinct(name: str, pattern: str | None) -> None:
    """What is replaced or cut off is made up for by a digest, so that no two outputs share a file."""
    mended = safe_name(output(name=name))
    assert mended is not None
    if pattern is None:
        assert mended == f"2221_{name}"
    else:
        stem = mended.removeprefix("2221_").removesuffix(".mp4").removesuffix(".exe")
        assert stem[:-9] == pattern
        assert stem[-9] == "-"
    assert mended != safe_name(output(name=name + "\x02"))


@examples(1000)
@given(
    name=st.text(max_size=300) | st.text(alphabet="./\\ ~a:\0", max_size=12),
    task_id=st.text(max_size=80),
    content_type=st.text(max_size=20),
)
def test_no_name_leaves_the_folder(name: str, task_id: str, content_type: str) -> None:
    """Whatever the service says, the file is in the folder, and its part file's name is not too long."""
    file_name = safe_name(output(name=name, task_id=task_id, content_type=content_type))
    if file_name is None:
        assert set("/\\\0") & set(name) or name in (".", "..")
        return
    folder = Path("/a/folder")
    assert (folder / file_name).parent == folder
    assert os.path.normpath(folder / file_name) == str(folder / file_name)
    assert not set('/\\:*?"<>|\0\r\n') & set(file_name)
    assert 0 < len(os.fsencode(file_name)) <= 200


@given(
    st.lists(st.text(max_size=5) | st.sampled_from(["a.mp4", "A.MP4", "a-1.mp4", "a-2.mp4", "a"]), max_size=6)
)
def test_outputs_in_one_folder_have_distinct_names(names: list[str]) -> None:
    """However alike the service's names are, and the same ones each time."""
    outputs = [output(name=name, index=index) for index, name in enumerate(names)]
    chosen = folder_names(outputs)
    kept = [name.casefold() for name in chosen if name is not None]
    assert len(set(kept)) == len(kept)
    assert chosen == folder_names(outputs)
    assert [name is None for name in chosen] == [safe_name(each) is None for each in outputs]


def test_only_a_name_that_is_taken_is_changed() -> None:
    """By the output's index, before the extension; two ways to write one letter are one name."""
    names = ["a.mp4", "b.mp4", "a.mp4", "A.mp4", "a-2.mp4", "\uac00", "\u1100\u1161"]
    chosen = folder_names(output(name=name, index=index) for index, name in enumerate(names))
    assert chosen[:6] == [
        "2221_a.mp4", "2221_b.mp4", "2221_a-2.mp4", "2221_A-3.mp4", "2221_a-2-4.mp4", "2221_\uac00",
    ]  # fmt: skip
    assert chosen[6] == "2221_\u1100\u1161-6"


# -- in a header -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat.png", "cat-s.png"),
        ('a"b.png', "a_b-s.png"),
        ("a\r\nContent-Type: text/html\r\n\r\n.png", "a_Content-Type_text_html_-s.png"),
        ("ünï/cødé.png", "_n_c_d_-s.png"),
        ("日本語.png", "_-s.png"),
        ("../../etc/passwd", "_.-s._etc_passwd"),
        (".png", "png-s"),
        ("...", "file-s"),
        ("", "file-s"),
        ("archive.tar.gz", "archive.tar-s.gz"),
        ("x" * 300 + ".png", "x" * 70 + "-s.png"),
        ("a." + "x" * 300, "a-s." + "x" * 11),
        ("con\0trol\x7f.png", "con_trol_-s.png"),
    ],
)
def test_names_are_made_harmless(name: str, expected: str) -> None:
    """Only letters, digits, dots, dashes and underlines stay; the ending does too."""
    assert upload_name(name, "s") == expected


@given(st.text(max_size=400))
def test_no_name_can_break_a_header(name: str) -> None:
    """Whatever the name, at most 100 harmless characters are sent."""
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", upload_name(name, "0a1b2c3d"))


# -- kinds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "extension"), [("video/mp4", ".mp4"), ("odd", ".bin"), ("", ".bin")]
)
def test_a_media_type_has_an_extension(content_type: str, extension: str) -> None:
    """Or it is not known."""
    assert safe_name(output(name="", content_type=content_type)) == f"2221_0{extension}"


@pytest.mark.parametrize(
    ("head", "extension"),
    [
        (b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff\xe0", ".jpg"), (b"GIF87a", ".gif"),
        (b"GIF89a", ".gif"), (b"RIFF....WEBPVP8 ", ".webp"), (b"RIFF....WAVEfmt ", ".wav"),
        (b"\x1a\x45\xdf\xa3", ".webm"), (b"%PDF-1.7", ".pdf"), (b"....ftypavif", ".avif"),
        (b"....ftypisom", ".mp4"), (b"....moov", ".mp4"), (b"....mdat", ".mp4"), (b"", ".bin"),
        (b"PNG", ".bin"), (b".\x89PNG\r\n\x1a\n", ".bin"), (b"ftypisom", ".bin"), (b"WEBP", ".bin"),
    ],
)  # fmt: skip
def test_a_mark_at_its_place_tells_the_kind_of_a_file(head: bytes, extension: str) -> None:
    """And nowhere else in the file."""
    assert extension_by(head) == extension
