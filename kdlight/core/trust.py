"""Whose code may files name?

Building what a file names imports a package, and so runs its code: that is the user's to allow. A
configuration that names a class has said so; for a checkpoint or a model it is ``--trust``.
"""

_trusted = {"kdlight"}


def trust(*packages: str) -> None:
    """Allow files to name classes of these packages, for as long as this process runs.

    Args:
        packages: Names of top-level packages, such as ``my_package``.
    """
    _trusted.update(packages)


def is_trusted(package: str) -> bool:
    """Whether files may name classes of a top-level package."""
    return package in _trusted
