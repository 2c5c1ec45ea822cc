"""Cases of methods that change what a language model is."""

from typing import Any

import torch

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.state_space import StateSpaceModel
from kdlight.training.optim import Optimization
from modules.language.structure.mohawk import MOHAWK
from tests.exactness.harness import Case
from tests.exactness.language_cases import LENGTH, V, network, ragged


def mohawk(**kwargs: Any) -> MOHAWK:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = StateSpaceModel(V, width=8, depth=1, heads=2, chunk=4)
    return MOHAWK(
        AutoregressiveModel(network(2, causal=True), V, LENGTH),
        AutoregressiveModel(student, V, LENGTH),
        ForwardKL(),
        Optimization(lr=3e-3, decay="cosine"),
        iterations=20,
        matrix_iterations=2,
        state_iterations=2,
        ema_half_life=3.0,
        **kwargs,
    )


STRUCTURE = {
    "mohawk": Case(mohawk, 20, (2, 4), data_module=ragged),
}
