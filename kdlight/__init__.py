"""kdlight: knowledge distillation with PyTorch Lightning.

``kdlight.load`` and ``kdlight.fit`` are in :mod:`kdlight.api`, which is imported when first asked
for: it comes with torch, and the command line's help should not wait for that.
"""

from typing import Any

__version__ = "0.2.0"

_API = ("Codec", "Generator", "Run", "Samples", "Texts", "Writer", "fit", "load", "trust")


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'kdlight' has no attribute {name!r}")
    from kdlight import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
