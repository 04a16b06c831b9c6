"""What the tests of files share: faults of the file system that no real one has for root."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

Denial = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def no_file_opens(monkeypatch: pytest.MonkeyPatch) -> Denial:
    """Return a context in which the system lets nobody open a file.

    Not by a folder's mode: the tests may run as root, who may open everything.
    """

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    @contextmanager
    def denying() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", denied)
            yield

    return denying
