"""The recipes of docs/synchronous.md, as they are printed there: each makes a clip on the sandbox."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import KEY, SECRET
from wiro_async.sandbox import Sandbox

PAGE = Path(__file__).parents[1] / "docs" / "synchronous.md"
MODEL = "MiniMax/image-to-video-01-director"
INPUTS = {"inputImageFirstUrl": "http://127.0.0.1:9/x.jpg", "prompt": "[Zoom in] waves roll in"}
NAMES = ("wiro_portal", "flask_app", "django_view", "celery_tasks")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a framework does to the root logger: Celery raises its level."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    for handler in {*root.handlers} - {*handlers}:
        root.removeHandler(handler)


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's programs as modules, with a sandbox as the service; the client is closed at the end."""
    for name, text in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    at_exit: list[Any] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    with Sandbox(api_key=KEY, api_secret=SECRET, speed=200, render=False) as sandbox:
        monkeypatch.setenv("WIRO_API_KEY", KEY)
        monkeypatch.setenv("WIRO_API_SECRET", SECRET)
        monkeypatch.setenv("WIRO_BASE_URL", sandbox.base_url)
        yield tmp_path
        for function in at_exit:
            function()
        for name in NAMES:
            sys.modules.pop(name, None)
        tasks = sandbox.ledger()["tasks"]
        assert tasks


def recipe(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_every_recipe_is_tried() -> None:
    """By the name in its first line."""
    assert tuple(re.findall(r"```python\n# (\w+)\.py\n", PAGE.read_text())) == NAMES


def test_many_threads_share_one_client(recipes: Path) -> None:
    """Each gets its own result."""
    portal = recipe("wiro_portal")
    with ThreadPoolExecutor(8) as threads:
        results = list(
            threads.map(lambda _: portal.run("MiniMax/image-to-video-01-director", INPUTS), range(8))
        )
    assert len({result.task.id for result in results}) == 8
    assert portal._start.cache_info().currsize == 1


def test_flask(recipes: Path) -> None:
    """A POST is answered with the clip's address."""
    pytest.importorskip("flask")
    answer = recipe("flask_app").app.test_client().post("/clips", json=INPUTS)
    assert answer.status_code == 200
    assert answer.get_json()["url"].startswith("http")


def test_django(recipes: Path) -> None:
    """A view in a thread of the server's answers with the clip's address."""
    settings = pytest.importorskip("django.conf").settings
    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8", ALLOWED_HOSTS=["*"])
    requests = importlib.import_module("django.test").RequestFactory()

    request = requests.post("/clips", json.dumps(INPUTS), content_type="application/json")
    answer = recipe("django_view").make_clip(request)
    assert json.loads(answer.content)["url"].startswith("http")


def test_celery(recipes: Path) -> None:
    """A task that a worker's thread runs returns the clip's address."""
    pytest.importorskip("celery")
    start_worker = importlib.import_module("celery.contrib.testing.worker").start_worker

    module = recipe("celery_tasks")
    with start_worker(module.app, pool="threads", perform_ping_check=False, shutdown_timeout=30):
        assert module.make_clip.delay(INPUTS).get(timeout=30)["url"].startswith("http")
