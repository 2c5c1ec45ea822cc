"""Every place where a command reads a file, and a command that works there."""

from tests.fuzz.slots.authors import AUTHORS
from tests.fuzz.slots.language import TEXT_MODELS
from tests.fuzz.slots.ours import OURS
from tests.fuzz.slots.published import PUBLISHED

SLOTS = [*AUTHORS, *TEXT_MODELS, *PUBLISHED, *OURS]
"""Every place where a file is read."""
