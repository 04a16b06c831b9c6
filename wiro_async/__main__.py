"""``python -m wiro_async``: the same as the ``wiro`` command."""

from __future__ import annotations

import sys

from wiro_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
