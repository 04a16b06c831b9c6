"""From a slug to a path: real slugs arrive as they are, tricks do not arrive at all."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import InvalidInput
from wiro_async._protocol.operations import clean_slug, run

BASE = "https://api.wiro.ai/v1/"

SLUGS = {
    "MiniMax/image-to-video-01-director": b"MiniMax/image-to-video-01-director",
    "MiniMax/hailuo-2.3": b"MiniMax/hailuo-2.3",
    "minimax/hailuo-2-3": b"minimax/hailuo-2-3",
    "wiro/Product Photoshoot": b"wiro/Product%20Photoshoot",
    "lightricks/ ltx-2.3": b"lightricks/%20ltx-2.3",
    "elevenlabs/Realtime Conversational AI": b"elevenlabs/Realtime%20Conversational%20AI",
    "alibaba/wan 2.6": b"alibaba/wan%202.6",
    "ACE-Step/image-to-song-ACE-Step-v1-3.5B": b"ACE-Step/image-to-song-ACE-Step-v1-3.5B",
    "black-forest-labs/FLUX.2-klein-base-9B": b"black-forest-labs/FLUX.2-klein-base-9B",
    "ByteDance/seedance-pro-v1.5-uncensored": b"ByteDance/seedance-pro-v1.5-uncensored",
}


@pytest.mark.parametrize("slug", SLUGS)
def test_a_real_slug_arrives(slug: str) -> None:
    """Capitals, dots and spaces of the service's own names are encoded, not restricted."""
    assert httpx.URL(BASE + run(slug).path).raw_path == b"/v1/Run/" + SLUGS[slug]


REFUSED = [
    "", "/", "//", "a", "a/", "/a", "a//b", "a/b/", "/a/b", "a/b/c", "//host/a", "//evil.com/x/y",
    ".", "..", "./a", "a/.", "a/..", "../a", "../../Task/Kill", "../Task/Kill", "a/../b", " ../a", "a/.. ",
    "a/ . ", " /a", "a/ ", "a/   ",
    "https://evil.com/a", "https://evil.com/a/b", "http://a/b", "file:///etc/passwd",
    "a/b?x=1", "a/b?", "a?/b", "?/a", "a/b#f", "a/#", "#/a",
    "a\\b", "a/b\\..\\c", "a\\/b", "..\\/a", "\\/a",
    "a/b\r\nx: 1", "a/b\n", "\ra/b", "a\n/b", "a/b\0", "\0/a", "a/\tb", "a\v/b", "a/b\x1b[31m", "a/b\x7f",
    "a/\x85b", "a/\xa0b", "a/\u2028b", "a/\u3000", "a/b\u202egpj", "a/\u200bb", "a/\ufeffb",
    "\ud800/a", "a/\udfff",
    "a/" + "b" * 10_000, "a/" + "b" * (199), "../" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("slug", REFUSED, ids=lambda slug: ascii(slug[:24]))
def test_a_trick_is_refused(slug: str) -> None:
    """What would change the path's meaning is refused, in one short printable line that names the model."""
    with pytest.raises(InvalidInput) as caught:
        run(slug)
    assert caught.value.name == "model"
    assert str(caught.value).startswith("the model ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


ENCODED = {
    "%2e%2e/a": b"%252e%252e/a",
    "a/%2e%2e": b"a/%252e%252e",
    "a/%2F%2e%2e": b"a/%252F%252e%252e",
    "a/b%00": b"a/b%2500",
    "a/b%0d%0ax": b"a/b%250d%250ax",
    "a/b;c": b"a/b%3Bc",
    "a/b:c@d": b"a/b%3Ac%40d",
    "evil.com:443/x": b"evil.com%3A443/x",
    "a/...": b"a/...",
    "a/.b": b"a/.b",
    "a/b%": b"a/b%25",
    "a/é": b"a/%C3%A9",
    "a/視頻": b"a/%E8%A6%96%E9%A0%BB",
    "a/😀": b"a/%F0%9F%98%80",
    'a/"<>|^`{}': b"a/%22%3C%3E%7C%5E%60%7B%7D",
    "a/&=+$,!*'()[]": b"a/%26%3D%2B%24%2C%21%2A%27%28%29%5B%5D",
    "a/~-_.": b"a/~-_.",
    "a/" + "b" * (198): b"a/" + b"b" * (198),
}


@pytest.mark.parametrize("slug", ENCODED, ids=lambda slug: ascii(slug[:24]))
def test_what_could_mislead_is_encoded(slug: str) -> None:
    """Percent signs too, so that nothing is decoded into a separator or a dot segment on the way."""
    assert httpx.URL(BASE + run(slug).path).raw_path == b"/v1/Run/" + ENCODED[slug]


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("a", "is not owner/model: two names and one slash, as `wiro models` lists them"),
        ("a/b?", "which end or change a path"),
        ("a/b\n", "holds a control character"),
        ("a/" + "b" * 300, f"'a/{'b' * 58}'… has 302 characters; the limit is 200"),
        (7, "the model is a int; it must be a str like owner/model"),
        (b"a/b", "the model is a bytes"),
        (None, "the model is a NoneType"),
    ],
)
def test_a_refusal_teaches(slug: str, words: str) -> None:
    """The message says the value, the rule and the way out."""
    with pytest.raises(InvalidInput, match=words.replace("?", r"\?")):
        run(slug)


segments = st.one_of(
    st.text(max_size=6),
    st.lists(
        st.sampled_from(
            [".", "..", "/", "%2e", "%2F", "?", "#", "\\", " ", ":", "@", "%", "é", "\ud800", "x"]
        ),
        max_size=5,
    ).map("".join),
)
slugs = st.one_of(segments, st.tuples(segments, segments).map("/".join))


@given(slugs)
@examples(2000)
def test_whatever_is_accepted_round_trips(slug: str) -> None:
    """On the wire stand exactly the two encoded segments, and decoding them gives the slug back."""
    try:
        path = run(slug).path
    except InvalidInput:
        return
    url = httpx.URL(BASE + path)
    assert (url.host, url.query, url.fragment) == ("api.wiro.ai", b"", "")
    before, owner, model = url.raw_path.decode("ascii").rsplit("/", 2)
    assert before == "/v1/Run"
    assert f"Run/{owner}/{model}" == path
    assert f"{unquote(owner, errors='strict')}/{unquote(model, errors='strict')}" == slug


@pytest.mark.parametrize(
    ("slug", "clean"),
    [
        ("MiniMax/hailuo-2.3", "minimax/hailuo-2-3"),
        ("MiniMax/image-to-video-01-director", "minimax/image-to-video-01-director"),
        ("wiro/Product Photoshoot", "wiro/product-photoshoot"),
        ("lightricks/ ltx-2.3", "lightricks/ltx-2-3"),
        ("black-forest-labs/FLUX.2-klein-base-9B", "black-forest-labs/flux-2-klein-base-9b"),
        ("a/b -- c_.", "a/b-c"),
        ("", ""),
    ],
)
def test_the_services_other_spelling(slug: str, clean: str) -> None:
    """Lower case, and one dash for whatever is no letter or digit; cleaning twice changes nothing."""
    assert clean_slug(slug) == clean
    assert clean_slug(clean) == clean
