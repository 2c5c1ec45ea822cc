"""A part of the wrong kind is named where it is given, and not where it is used."""

import pytest
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveGenerator
from kdlight.discrete.denoiser import OracleDenoiser
from kdlight.discrete.energy import AutoregressiveEnergy, NeuralEnergy
from kdlight.discrete.energy_sampler import EnergyGenerator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.guidance import GuidedTokenDenoiser
from kdlight.discrete.jumps import JumpGenerator
from kdlight.discrete.oracle import HMMLanguage
from kdlight.errors import InputError

NOTHING = nn.Identity()
MASKED = OracleDenoiser(HMMLanguage(2, 3, 4))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TokenGenerator(NOTHING), "denoiser: expected a masked model"),
        (lambda: GuidedTokenDenoiser(NOTHING, 1.0, [True]), "denoiser: expected a masked model"),
        (lambda: NeuralEnergy(NOTHING, NOTHING), "proposal: expected a masked model"),
        (lambda: AutoregressiveEnergy(MASKED, NOTHING), "model: expected a model of next tokens"),
        (lambda: EnergyGenerator(MASKED), "denoiser: expected a masked model with an energy"),
        (lambda: AutoregressiveGenerator(NOTHING), "model: expected a model of next tokens"),
        (lambda: JumpGenerator(NOTHING), "model: expected a model that jumps"),
    ],
)
def test_a_part_of_another_kind_is_named(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_sampler_of_another_kind_is_named():
    generator = TokenGenerator(MASKED, "jump")
    with pytest.raises(InputError, match="algorithm: expected a sampler that fills masks"):
        generator(generator.masks(2), 0)
