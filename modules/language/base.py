"""What all methods of token generators have in common: training ends in generators."""

import torch
from torch import Tensor, nn

from kdlight.discrete.components import ComponentDenoiser
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import JumpModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.errors import InputError
from kdlight.training.base import Batch, DistillationModule


class TokenModule(DistillationModule):
    """Base of the methods that train models which write tokens.

    A method defines :meth:`generators`, and with a teacher :meth:`teacher_generator`.
    """

    def generators(self) -> dict[str, tuple[str, TokenGenerator]]:
        """What training ends in.

        Returns:
            For the state-dict prefix of a denoiser: a name ("student") and its generator.
        """
        raise NotImplementedError

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        """The generators; of a run on text, with the tokenizer of its data."""
        tokenizer = getattr(self._data(), "tokenizer", None)
        if tokenizer is None:
            return dict(self.generators())
        return {
            prefix: (name, TextGenerator(generator, tokenizer.portable()))
            for prefix, (name, generator) in self.generators().items()
        }

    def setup(self, stage: str) -> None:
        """Refuse data of another vocabulary or length than the model's.

        Raises:
            InputError: They are.
        """
        data = self._data()
        for name, generator in self.generators().values():
            for size in ("vocabulary", "length"):
                expected, found = getattr(generator, size), getattr(data, size, None)
                if found is not None and found != expected:
                    raise InputError(
                        f"data: expected the {size} of the {name}, {expected}, found {found}."
                    )

    def _data(self) -> object:
        """The data module of the run; None without one."""
        trainer = self._trainer
        return None if trainer is None else getattr(trainer, "datamodule", None)

    def teacher_generator(self) -> TokenGenerator | None:
        """The teacher as it samples at full quality, to compare with; None if there is none."""
        return None

    def get_teacher(self) -> TokenGenerator:
        """The frozen part ``teacher`` of a method whose teacher is a generator."""
        teacher = self.get_submodule("teacher")
        assert isinstance(teacher, TokenGenerator)
        return teacher

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Samples of the first generator, as many as the batch has rows."""
        _, generator = next(iter(self.generators().values()))
        count = len(batch["tokens"])
        start = generator.masks(count, self.device)
        # Rows of the whole set: no two ranks and no two batches draw the same.
        first = (batch_idx * self.trainer.world_size + self.global_rank) * count
        return generator(start, self.noise.seed, first).tokens  # type: ignore[no-any-return]

    def masked_uniform(self, tokens: Tensor) -> Tensor:
        """Numbers in [0, 1) for every position of a batch, (B, L) float64."""
        return self.noise.uniform(len(tokens), tokens.shape[1])

    def scored(self, batch: Batch) -> Tensor:
        """Which positions of a batch are scored, (B, L) bool: all where the data do not say."""
        tokens: Tensor = batch["tokens"]
        return batch.get("mask", torch.ones_like(tokens, dtype=torch.bool))  # type: ignore[no-any-return]


def check_sizes(teacher: TokenGenerator, student: ComponentDenoiser | JumpModel) -> None:
    """Both write sequences of the same tokens and length.

    Raises:
        InputError: They do not.
    """
    sizes = [(model.vocabulary, model.length) for model in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"student: expected the teacher's vocabulary and length {sizes[0]}, found {sizes[1]}."
        )


def chosen(log_probs: Tensor, tokens: Tensor, masked: Tensor) -> Tensor:
    """Log-probabilities of ``tokens`` (B, L) where ``masked``; 0 elsewhere."""
    found = log_probs.gather(2, tokens[..., None])[..., 0]
    # A visible token has log-probability 0; what a mask would have is never looked at.
    return torch.where(masked, found, torch.zeros_like(found))


def copy_what_fits(teacher: nn.Module, student: nn.Module) -> None:
    """Start ``student`` from the teacher's weights, where name and shape are the same."""
    known, own = teacher.state_dict(), student.state_dict()
    own |= {
        name: known[name] for name in own if name in known and known[name].shape == own[name].shape
    }
    student.load_state_dict(own)
