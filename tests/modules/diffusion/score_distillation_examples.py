"""What the tests of score distillation share."""

from tests.exactness.diffusion_cases import (
    score_distillation,
)
from tests.exactness.harness import differing, state


def made(method, **settings):
    return score_distillation(method, **settings)()


def same(one, other, rename=lambda key: key):
    """Whether two trained modules hold the same numbers, bit for bit."""
    ours, theirs = state(one), {rename(key): value for key, value in state(other).items()}
    return not list(differing(ours, theirs))
