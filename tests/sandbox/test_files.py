"""Folders of uploads."""

from __future__ import annotations

import pytest

from wiro_async.sandbox._engine import Product
from wiro_async.sandbox._files import Folders
from wiro_async.sandbox._refusal import Refusal

PRODUCT = Product("a.png", "image/png", 3, "folder/a.png")


def test_a_name_stands_once_in_each_folder() -> None:
    """A second file of that name is refused there, and only there."""
    folders = Folders(0)
    file = folders.add("", PRODUCT, 5.0)
    assert (file.name, file.size, file.parentid, file.path) == ("a.png", 3, "", "folder/a.png")
    with pytest.raises(Refusal, match="filesystem-already-exist"):
        folders.check("", "a.png")
    inner = folders.create("inner", "")
    folders.check(inner, "a.png")
    assert folders.add(inner, PRODUCT, 5.0).parentid == inner
    with pytest.raises(Refusal, match="filesystem-already-exist"):
        folders.create("inner", "")


def test_an_unknown_folder_is_refused() -> None:
    """It might be somebody else's."""
    with pytest.raises(Refusal, match="You don't have any permission for this action"):
        Folders(0).check("nowhere", "a.png")
