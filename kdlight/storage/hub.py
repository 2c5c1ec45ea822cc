"""The Hugging Face hub, which may be out of reach: its libraries would try again for minutes."""

import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 5.0
"""How long the hub may take to answer."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@functools.cache
def reachable(endpoint: str) -> bool:
    """Whether a server takes connections; behind a proxy it is assumed to."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return True
    place = urlsplit(endpoint)
    try:
        port = place.port or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname or "", port), timeout=SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def hub_or_cache(name: Path | str) -> Iterator[None]:
    """Within it the libraries ask their cache alone where the hub cannot be reached.

    Args:
        name: What they look for; if it is a folder of this machine, nothing is changed.
    """
    if Path(name).exists():
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
