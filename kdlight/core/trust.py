"""Whose code may files name?

Building what a file names imports a package, and so runs its code: that is the user's to allow. A
configuration that names a class has said so; for a checkpoint or a model it is ``--trust``.
"""

from kdlight.errors import InputError

_trusted = {"kdlight"}


def trust(*packages: str) -> None:
    """Allow files to name classes of these packages, for as long as this process runs.

    Args:
        packages: Names of top-level packages, such as ``my_package``.

    Raises:
        InputError: Something else than such a name; none of them is trusted then.
    """
    for package in packages:
        if not (isinstance(package, str) and package.isidentifier()):
            raise InputError(f"trust: expected the name of a package, found {package!r}.")
    _trusted.update(packages)


def is_trusted(package: str) -> bool:
    """Whether files may name classes of a top-level package."""
    return package in _trusted
