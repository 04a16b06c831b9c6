"""TLS settings: the user's own, or those that the environment and the operating system call for."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from wiro_async._aio import run_in_thread
from wiro_async._errors import ConfigurationError

__all__ = ["Tls", "make_tls"]

_made: dict[tuple[str, ...], ssl.SSLContext] = {}


class Tls:
    """A client's TLS settings, for https and wss alike.

    Args:
        given: The user's own (None: they are made when first needed).
        trust_env: Whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` say which certificates to trust.
    """

    def __init__(self, given: ssl.SSLContext | None = None, *, trust_env: bool = True) -> None:
        self._given = given
        self._trust_env = trust_env

    async def settings(self) -> ssl.SSLContext:
        """Return the settings, without blocking the event loop.

        Raises:
            ConfigurationError: The environment names certificates that cannot be read.
        """
        if self._given is not None:
            return self._given
        # What they depend on; the whole process shares them.
        known = _made.get(self._sources())
        if known is not None:
            return known
        # Reading the certificates takes tens of milliseconds, which the event loop does not have.
        return await run_in_thread(self.load)

    def load(self) -> ssl.SSLContext:
        """Return the settings. It reads files, and blocks.

        Raises:
            ConfigurationError: As ``settings()``.
        """
        if self._given is not None:
            return self._given
        sources = self._sources()
        return _made.setdefault(sources, _made.get(sources) or make_tls(*sources))

    def _sources(self) -> tuple[str, str]:
        if not self._trust_env:
            return "", ""
        return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


def make_tls(file: str, folder: str) -> ssl.SSLContext:
    """Make settings that trust the certificates of both, or else certifi's.

    Args:
        file: A file of certificates, as ``SSL_CERT_FILE`` names it ("": none).
        folder: Folders of hashed certificates, as ``SSL_CERT_DIR`` names them ("": none).

    Raises:
        ConfigurationError: One of them cannot be read.
    """
    if not file and not folder:
        settings = httpx.create_ssl_context(trust_env=False)
    else:
        # OpenSSL ignores folders that are not there.
        if folder and not any(Path(each).is_dir() for each in folder.split(os.pathsep)):
            raise _unreadable("SSL_CERT_DIR", folder, "there is no such folder")
        try:
            settings = ssl.create_default_context(cafile=file or None, capath=folder or None)
        except OSError as error:
            raise _unreadable("SSL_CERT_FILE", file, error.strerror or str(error)) from None
    settings.set_alpn_protocols(["http/1.1"])
    return settings


def _unreadable(variable: str, value: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the environment variable {variable} is {value!r}, and no certificates can be read from there "
        f"({reason}); correct or unset it, or pass Client(ssl_context=...)"
    )
