"""Teachers that write tokens."""

from pathlib import Path

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.discrete.energy import AutoregressiveEnergy
from kdlight.discrete.energy_sampler import EnergyGenerator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.text_generator import writes_tokens
from kdlight.errors import InputError
from kdlight.networks.text.condensing import Condensing
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import sha256_of
from kdlight.teachers.checkpoint import models_of


def token_teacher(checkpoint: str) -> TokenGenerator:
    """A model that a run of kdlight trained.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.

    Raises:
        InputError: The file is missing or damaged, or holds no model that writes tokens.
    """
    path = Path(checkpoint)
    models = [model for _, model in models_of(path)]
    for model in models:
        if generator := writes_tokens(model):
            generator.provenance = {"source": str(path.absolute()), "sha256": sha256_of(path)}
            return generator
    raise InputError(
        f"{path}: expected a model that writes tokens, found {type(models[0]).__name__}."
    )


def language_teacher(checkpoint: str) -> AutoregressiveModel:
    """A model of next tokens that a run of kdlight trained: a teacher, or a student that goes on.

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.

    Raises:
        InputError: The file is missing or damaged, or holds no model of next tokens.
    """
    model = token_teacher(checkpoint).denoiser
    if not isinstance(model, AutoregressiveModel):
        raise InputError(
            f"{checkpoint}: expected a model of next tokens, found {type(model).__name__}."
        )
    return model


def condensing_student(
    checkpoint: str, context: int, vectors: int, width: int = 64, depth: int = 2, heads: int = 4
) -> AutoregressiveModel:
    """A model that a run trained, with vectors to learn in the place of demonstrations (MEND).

    Args:
        checkpoint: Checkpoint of the run, or an exported ``.safetensors`` model.
        context: Tokens of the demonstrations.
        vectors: How many vectors stand for them.
        width: Channels of the network that makes the vectors.
        depth: Its blocks.
        heads: Its attention heads.

    Raises:
        InputError: See :func:`language_teacher`; or the model's network takes no vectors.
    """
    model = language_teacher(checkpoint)
    if not isinstance(model.network, TokenTransformer):
        raise InputError(
            f"{checkpoint}: expected a TokenTransformer, found {type(model.network).__name__}."
        )
    if not context < model.length:
        raise InputError(f"context: expected less than {model.length} tokens, found {context}.")
    network = Condensing(model.network, context, vectors, width, depth, heads)
    return AutoregressiveModel(network, model.vocabulary, model.length, model.beginning)


def energy_teacher(
    checkpoint: str,
    autoregressive: str,
    candidates: int = 8,
    window: float = 1.0,
    steps: int = 8,
    carry_over: bool = False,
) -> TokenGenerator:
    """A masked model with the energy of an autoregressive one (EDLM-AR), which needs no training.

    Args:
        checkpoint: Run or model of the masked model.
        autoregressive: Run or model of the other, such as
            ``configs/oracle/autoregressive.yaml`` trains.
        candidates: Sequences of a step to pick from.
        window: The share of the walk in which it does.
        steps: Steps.
        carry_over: See :class:`~kdlight.discrete.energy.AutoregressiveEnergy`.

    Raises:
        InputError: See :func:`token_teacher`; or the two do not fit together.
    """
    masked, model = token_teacher(checkpoint), token_teacher(autoregressive)
    if masked.algorithm == "autoregressive" or model.algorithm != "autoregressive":
        raise InputError(
            "expected a masked model as checkpoint and one that writes from left to right as "
            f"autoregressive, found {masked.algorithm} and {model.algorithm}."
        )
    energy = AutoregressiveEnergy(masked.denoiser, model.denoiser, carry_over)
    return EnergyGenerator(energy, candidates, window, (steps,))
