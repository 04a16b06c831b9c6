"""A local service that imitates the Wiro API over real sockets.

For trying things out, for tests and for benchmarks: it takes the service's own requests, with or without
signatures, gives tasks a life of realistic length, and renders real clips. It never leaves this machine.

    async with Sandbox(speed=20) as sandbox:
        ...  # sandbox.base_url takes the place of the service's address
"""

from __future__ import annotations

try:
    import av as _av  # noqa: F401
    import PIL as _pil  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"The sandbox needs {error.name!r}, which is not installed: pip install 'wiro-async[sandbox]'",
        name=error.name,
    ) from error

from ._config import SandboxConfig
from ._engine import Engine
from ._server import Sandbox, serve

__all__ = ["Engine", "Sandbox", "SandboxConfig", "serve"]
