"""Optional packages of the speech metrics: is one there, which version, what to do if not."""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

from kdlight.errors import InputError


def version(package: str) -> str | None:
    """Installed version of a distribution, or None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def check_installed(package: str, module: str, owner: str) -> None:
    """Complain if a module cannot be found.

    Args:
        package: The distribution, as pip names it.
        module: A module of it.
        owner: Who needs it, for the complaint.

    Raises:
        InputError: The package is not installed.
    """
    if not installed(module):
        raise InputError(
            f"{owner} needs the package {package}: pip install 'kdlight[speech-eval]'."
        )


def require(package: str, module: str, owner: str) -> Any:
    """Import a module of an optional package; arguments as of :func:`check_installed`.

    Raises:
        InputError: The package is not installed, or does not import.
    """
    check_installed(package, module, owner)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{owner}: {package} does not import here: {error}.") from None
