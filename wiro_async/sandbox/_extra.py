"""Says in time what is missing: imported before anything that needs the extra."""

from __future__ import annotations

from importlib.util import find_spec

__all__: list[str] = []

for _name in ("av", "PIL", "python_multipart", "starlette", "uvicorn", "websockets"):
    if find_spec(_name) is None:
        raise ImportError(
            f"The sandbox needs {_name!r}, which is not installed: "
            "install it with its extra, from the clone: pip install '.[sandbox]'",
            name=_name,
        )
