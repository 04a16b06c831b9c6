"""Who is asking: the two kinds of projects and their headers. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

import attrs

from wiro_async.sandbox._refusal import Refusal

__all__ = ["Gate", "Project"]

# `openssl dgst` of the documents' shell recipe prints one of these before the digest.
_OPENSSL_PREFIX = re.compile(rb"^(?:SHA2-256|SHA256|HMAC-SHA2-256)?\(stdin\)= *")


@attrs.frozen
class Project:
    """A project: its id, as tasks show it, and its credentials."""

    id: str
    api_key: str = attrs.field(repr=False)
    api_secret: str | None = attrs.field(repr=False)

    def signature(self, nonce: str) -> bytes:
        """The signature the service expects: HMAC-SHA256 with the key over secret + nonce, in hex."""
        message = (self.api_secret or "") + nonce
        return hmac.digest(self.api_key.encode(), message.encode(), "sha256").hex().encode()


class Gate:
    """Lets requests of known projects in.

    Args:
        projects: ``{api_key: api_secret}``; a secret of None makes the project key-only.
        strict_nonce: Whether a nonce may be used only once per project.
    """

    def __init__(self, projects: Mapping[str, str | None], *, strict_nonce: bool = False) -> None:
        self._projects: dict[bytes, Project] = {
            key.encode(): Project(str(699 + index), key, secret)
            for index, (key, secret) in enumerate(projects.items())
        }
        self._strict_nonce: bool = strict_nonce
        self._nonces: set[tuple[str, str]] = set()

    @property
    def first_project_id(self) -> str:
        """The id of the project that was given first."""
        return next(iter(self._projects.values())).id

    def project(self, api_key: str) -> Project | None:
        """The project with this key."""
        return self._projects.get(api_key.encode())

    def rotate(self, old_key: str, api_key: str, api_secret: str | None) -> None:
        """Give a project new credentials. The old key is unknown from now on, as an unknown one stays."""
        project = self._projects.pop(old_key.encode(), None)
        if project is not None:
            self._projects[api_key.encode()] = Project(project.id, api_key, api_secret)

    def check(self, headers: Mapping[bytes, bytes]) -> Project:
        """Find the project of a request and verify its signature.

        Args:
            headers: The request's headers, names in lower case.

        Raises:
            Refusal: 401, in the service's words.
        """
        project = self._projects.get(headers.get(b"x-api-key", b""))
        if project is None:
            raise _unauthorized("Project authorization is not founded.")
        if project.api_secret is not None:
            self._check_signature(project, headers)
        return project

    def _check_signature(self, project: Project, headers: Mapping[bytes, bytes]) -> None:
        signature, nonce = headers.get(b"x-signature"), headers.get(b"x-nonce")
        if not signature or not nonce:
            raise _unauthorized(
                "Project requires signature authentication. x-signature and x-nonce headers are required."
            )
        text = nonce.decode("latin-1")
        given = _OPENSSL_PREFIX.sub(b"", signature)
        valid = re.fullmatch(r"-?[0-9]+", text) and hmac.compare_digest(given, project.signature(text))
        if not valid or (self._strict_nonce and (project.id, text) in self._nonces):
            raise _unauthorized("Project authorization is not valid.")
        if self._strict_nonce:
            self._nonces.add((project.id, text))


def _unauthorized(message: str) -> Refusal:
    return Refusal(0, message, http_status=401)
