"""Who may come in, and where the sandbox itself may go: what keeps other people's web pages away. Pure.

A page that a developer has open can send requests to this machine, and by a DNS name that it controls (DNS
rebinding) read the answers, too. It cannot choose the headers ``Host`` and ``Origin``, so they are checked.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from wiro_async.sandbox._config import is_loopback
from wiro_async.sandbox._refusal import Refusal

__all__ = ["CONTROL_TOKEN", "Access"]

CONTROL_TOKEN = "x-sandbox-token"  # noqa: S105 - the header's name
"""The header that brings the token for the sandbox's own switches."""


class Access:
    """The rules of one sandbox.

    Args:
        hosts: Names under which it is reached, beside those of this machine.
        addresses: ``HOST`` or ``HOST:PORT`` from which it reads images, and to which it sends callbacks.
        token: What its own switches ask for.
    """

    def __init__(self, hosts: Collection[str], addresses: Collection[str], token: str) -> None:
        self._hosts: frozenset[str] = frozenset(host.lower() for host in hosts)
        self._addresses: frozenset[str] = frozenset(address.lower() for address in addresses)
        self._token: bytes = token.encode()

    def check(self, host: str, origin: str) -> None:
        """Refuse a request that came by a strange name, or from a strange page.

        Args:
            host: The header of that name; "" where there is none: only what is no browser leaves it out.
            origin: Likewise; browsers send it with everything but plain loads of images, pages and scripts.

        Raises:
            Refusal: 403, with what to do.
        """
        if host and not self._is_ours(f"//{host}"):
            raise Refusal(
                0,
                f"Host {host[:100]!r} is none of this sandbox's. Reach it as localhost, 127.0.0.1 or [::1], "
                "or start it with --allow-host NAME (allow_host=[...]).",
                http_status=403,
            )
        if origin and not self._is_ours(origin):
            raise Refusal(
                0,
                f"Origin {origin[:100]!r} may not use this sandbox: only pages of this machine may, and "
                "those of --allow-host NAME (allow_host=[...]).",
                http_status=403,
            )

    def check_control(self, token: bytes, content_type: bytes | None) -> None:
        """Refuse to turn the sandbox's own switches for somebody who has not started it.

        Args:
            token: What the header ``x-sandbox-token`` says.
            content_type: The body's type; None where no body is expected.

        Raises:
            Refusal: 403 or 415, with what to do.
        """
        if not hmac.compare_digest(token, self._token):
            raise Refusal(
                0,
                f"The header {CONTROL_TOKEN} is missing or wrong. The token is in the second line of "
                "--ready-file, control_token in the output of --json, and sandbox.control_token in Python.",
                http_status=403,
            )
        kind = None if content_type is None else content_type.partition(b";")[0].strip().lower()
        if kind not in {None, b"application/json"}:
            raise Refusal(0, "Send JSON, with the header content-type: application/json.", http_status=415)

    def may_reach(self, url: str) -> bool:
        """Tell whether an address was allowed, for images and callbacks."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"} or not host or port == 0:
            return False
        shown = f"[{host}]" if ":" in host else host
        usual = 443 if parts.scheme == "https" else 80
        return not self._addresses.isdisjoint({host, shown, f"{shown}:{port or usual}"})

    def _is_ours(self, url: str) -> bool:
        try:
            name = (urlsplit(url).hostname or "").rstrip(".").lower()
        except ValueError:
            return False
        return is_loopback(name) or name.endswith(".localhost") or name in self._hosts
