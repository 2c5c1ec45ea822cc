"""What is asked of a few places is what the model says of all of them."""

import pytest
import torch

from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.denoiser import MaskedDenoiser, OracleDenoiser, asked_at
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.energy import NeuralEnergy
from kdlight.discrete.jumps import JumpModel
from kdlight.discrete.levels import LevelDenoiser
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.token_flow import TokenCodes
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.networks.text.vector_transformer import VectorTransformer

V, L, B = 6, 4, 3


def transformer(components=1):
    torch.manual_seed(0)
    made = TokenTransformer(V, 8, 1, 2, components=components, length=L)
    torch.nn.init.normal_(made.head.weight)
    return made


DENOISERS = {
    "all at once": lambda: OracleDenoiser(HMMLanguage(3, V, L)),
    "masked": lambda: MaskedDenoiser(transformer(), V, L),
    "any network": lambda: MaskedDenoiser(torch.nn.Embedding(V + 1, V), V, L),
    "levels": lambda: LevelDenoiser(transformer(), 3, 2, 2),
    "mixture": lambda: ComponentDenoiser(transformer(3), V, L, 3),
    "energy": lambda: NeuralEnergy(MaskedDenoiser(transformer(), V, L), torch.nn.Identity()),
}


@pytest.mark.parametrize("name", DENOISERS)
@torch.no_grad()
def test_denoisers(name):
    denoiser = DENOISERS[name]().eval()
    tokens = torch.tensor([[V, 1, V, V], [0, V, V, 3], [V, V, V, V]])
    places = (tokens == V) & (torch.rand(B, L, generator=torch.Generator().manual_seed(1)) < 0.6)
    for latent in (None, torch.tensor([0.1, 0.5, 0.9])):
        expected = denoiser(tokens, latent)[places]
        found = asked_at(denoiser, tokens, places, latent)
        torch.testing.assert_close(
            found.log_softmax(dim=1), expected, rtol=1e-5, atol=1e-5, check_dtype=False
        )


@torch.no_grad()
def test_jumps():
    torch.manual_seed(0)
    network = VectorTransformer(2, V, 8, 1, 2)
    torch.nn.init.normal_(network.head.weight)
    model = JumpModel(network, TokenCodes(V, 2), L)
    tokens, noise = torch.tensor([[1, V, V, V]]), torch.randn(1, L, 2)
    places = tokens == V
    torch.testing.assert_close(model.at(tokens, noise, places), model(tokens, noise)[places])


def test_numbers_of_a_row_are_those_of_the_first_version():
    draws = RowDraws(torch.tensor([0, 5]), seed=3)
    assert draws.uniform(2)[1].tolist() == [0.6195148391286293, 0.04493691326316873]
    assert draws.uniform(1)[0].tolist() == [0.4137090557592066]
