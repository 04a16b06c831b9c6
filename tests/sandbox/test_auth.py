"""Projects, keys and signatures."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from wiro_async.sandbox._auth import Gate, Project
from wiro_async.sandbox._refusal import Refusal

GATE = Gate({"key": "secret", "open-key": None})


def headers(*, key: str = "key", secret: str = "secret", nonce: str = "1734513807") -> dict[bytes, bytes]:
    """What a client sends: HMAC-SHA256 with the key over secret + nonce."""
    digest = hmac.new(key.encode(), (secret + nonce).encode(), hashlib.sha256).hexdigest()
    return {b"x-api-key": key.encode(), b"x-nonce": nonce.encode(), b"x-signature": digest.encode()}


def message(gate: Gate, sent: dict[bytes, bytes]) -> str:
    """What a request is refused with."""
    with pytest.raises(Refusal) as caught:
        gate.check(sent)
    assert (caught.value.code, caught.value.http_status) == (0, 401)
    return caught.value.message


def test_a_right_signature_is_let_in() -> None:
    """Signed requests belong to the key's project."""
    assert GATE.check(headers()).api_key == "key"


@pytest.mark.parametrize("prefix", ["(stdin)= ", "SHA2-256(stdin)= ", "HMAC-SHA2-256(stdin)= "])
def test_what_openssl_prints_before_the_digest_is_tolerated(prefix: str) -> None:
    """The documents' shell recipe sends it."""
    sent = headers()
    sent[b"x-signature"] = prefix.encode() + sent[b"x-signature"]
    assert GATE.check(sent).api_key == "key"


def test_a_known_signature_is_computed() -> None:
    """The digest is openssl's: printf secret1 | openssl dgst -sha256 -hmac key."""
    known = b"97e26fe366584d35fbd525732fd8a87a46cd49d3e7ece1585a42328ece100650"
    assert Project("1", "key", "secret").signature("1") == known


@pytest.mark.parametrize("absent", [b"x-signature", b"x-nonce"])
def test_a_signed_project_needs_both_headers(absent: bytes) -> None:
    """Leaving one out is refused in the service's words."""
    sent = headers()
    del sent[absent]
    assert message(GATE, sent) == (
        "Project requires signature authentication. x-signature and x-nonce headers are required."
    )


@pytest.mark.parametrize("nonce", ["1.5", "soon", "0x10", "１"])
def test_a_nonce_is_an_integer(nonce: str) -> None:
    """Other nonces are refused, also when they are signed."""
    assert message(GATE, headers(nonce=nonce)) == "Project authorization is not valid."


def test_a_wrong_secret_is_refused() -> None:
    """The signature decides."""
    assert message(GATE, headers(secret="wrong")) == "Project authorization is not valid."


@pytest.mark.parametrize("sent", [{}, headers(key="stranger")])
def test_an_unknown_key_is_refused(sent: dict[bytes, bytes]) -> None:
    """In the service's words, and its spelling."""
    assert message(GATE, sent) == "Project authorization is not founded."


def test_a_key_only_project_ignores_signatures() -> None:
    """With or without one, the key suffices."""
    assert GATE.check({b"x-api-key": b"open-key"}).id == "700"
    assert GATE.check(headers(key="open-key", secret="whatever")).id == "700"


def test_nonces_may_be_reused_unless_that_is_forbidden() -> None:
    """Reuse is accepted today; strict_nonce refuses it."""
    strict = Gate({"key": "secret"}, strict_nonce=True)
    for gate in (GATE, strict):
        gate.check(headers(nonce="5"))
    GATE.check(headers(nonce="5"))
    assert message(strict, headers(nonce="5")) == "Project authorization is not valid."
    strict.check(headers(nonce="6"))


def test_credentials_stay_out_of_the_repr() -> None:
    """A project can be logged."""
    assert "canary" not in repr(Project("1", "canary", "canary"))
