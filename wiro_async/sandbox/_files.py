"""Folders of uploaded files: a name may stand in each folder once. Pure."""

from __future__ import annotations

import random
import string

from wiro_async.sandbox._engine import Output, Product
from wiro_async.sandbox._refusal import not_found

__all__ = ["Folders"]


class Folders:
    """Uploaded files by folder.

    Args:
        seed: What ids and access keys come from.
    """

    def __init__(self, seed: int) -> None:
        self._rng: random.Random = random.Random(f"{seed}/files")  # noqa: S311 - a simulation, not a secret
        self._names: dict[str, set[str]] = {"": set()}

    def create(self, name: str, parent: str) -> str:
        """Create a folder and return its id."""
        self.check(parent, name)
        folder = f"{self._rng.getrandbits(128):032x}"
        self._names[parent].add(name)
        self._names[folder] = set()
        return folder

    def check(self, folder: str, name: str) -> None:
        """See whether a name is free.

        Raises:
            Refusal: 1, when there is no such folder, or the name is taken in it.
        """
        if folder not in self._names:
            raise not_found("You don't have any permission for this action.")
        if name in self._names[folder]:
            raise not_found("filesystem-already-exist")

    def add(self, folder: str, product: Product, now: float) -> Output:
        """Enter an uploaded file."""
        self._names[folder].add(product.name)
        return Output(
            id=f"{self._rng.getrandbits(128):032x}",
            name=product.name,
            contenttype=product.contenttype,
            parentid=folder,
            size=product.size,
            addedtime=now,
            accesskey="".join(self._rng.choices(string.ascii_letters + string.digits, k=30)),
            path=product.path,
        )
