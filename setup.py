"""Refuses a wheel: kdlight runs from its checkout, docs/application.md says why.

The rest is in pyproject.toml.
"""

import sys

from setuptools import setup
from setuptools.command.build_py import build_py

SENTENCE = (
    "kdlight is an application that runs from its checkout: expected an editable install, "
    "`pip install --editable .`, found a build of a wheel (docs/application.md says why)."
)


class EditableOnly(build_py):
    """Builds for an editable install alone."""

    def run(self) -> None:
        """Stop ``pip wheel .`` and ``pip install .`` with one sentence."""
        if not self.editable_mode:
            sys.exit(SENTENCE)
        super().run()


setup(cmdclass={"build_py": EditableOnly})
