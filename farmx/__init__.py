"""farmx: one yaml of hyperparameters to a finished table. Lazy: importing it imports nothing else."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's: importing that costs what importing json does, and every training script would pay
if TYPE_CHECKING:
    from typing import Any

    from farmx.api import launch as launch
    from farmx.api import runs as runs
    from farmx.logx import logx as logx

_HOMES = {"launch": "farmx.api", "runs": "farmx.api", "logx": "farmx.logx", "__version__": "farmx.version"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'farmx' has no attribute {name!r}")
    import importlib  # spares training scripts that import farmx.logx alone

    return getattr(importlib.import_module(_HOMES[name]), name)
