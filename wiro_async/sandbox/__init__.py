"""A local service that imitates the Wiro API over real sockets.

For trying things out, for tests and for benchmarks: it takes the service's own requests, with or without
signatures, gives tasks a life of realistic length, tells of it on WebSockets and by callbacks, and renders
real clips. It listens on this machine, answers requests for this machine's names only, and goes nowhere
unless it is told where (``allow_host``, ``allow_fetch``).

    async with Sandbox(speed=20) as sandbox:
        ...  # sandbox.base_url takes the place of the service's address
"""

from __future__ import annotations

from wiro_async.sandbox import _extra as _extra
from wiro_async.sandbox._config import SandboxConfig
from wiro_async.sandbox._engine import Engine
from wiro_async.sandbox._images import demo_images
from wiro_async.sandbox._server import Sandbox, serve

__all__ = ["Engine", "Sandbox", "SandboxConfig", "demo_images", "serve"]
