"""What methods share that learn codes of spoken sentences: which codec's they are."""

from typing import Any

import torch

from kdlight.errors import InputError
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.training.base import DistillationModule
from kdlight.training.data import data_of


class SpokenCodesModule(DistillationModule):
    """Base of those methods; :attr:`student` is what is trained."""

    student: SemanticWriter | AcousticFiller

    def models(self) -> dict[str, tuple[str, torch.nn.Module]]:
        return {"student": ("student", self.student)}

    def check_codec(self, levels: int) -> Any:
        """The data module, once its codes are known to be those of the student's codec.

        A new student takes its codec from the data; one that goes on keeps to it.

        Args:
            levels: Levels that a batch has to have, or more.

        Raises:
            InputError: The data have no such codes.
        """
        data = data_of(self.trainer)
        if not hasattr(data, "digest"):
            raise InputError(
                "data: expected sentences as codes, such as SpokenTokensDataModule has, found "
                f"{type(data).__name__}."
            )
        codec = data.codec
        if codec.codebook_size != self.student.codebook_size:
            raise InputError(
                f"student.codebook_size: expected {codec.codebook_size} of the data's codec, "
                f"found {self.student.codebook_size}."
            )
        found = 1 if data.teacher is not None else codec.n_q
        if found < levels:
            raise InputError(f"data: expected {levels} levels of codes, found {found}.")
        digest = data.digest().to(self.student.codec)
        if not self.student.codec.any():
            self.student.codec.copy_(digest)
        elif not torch.equal(self.student.codec, digest):
            raise InputError(f"data: expected codes of the student's codec, found of {data.path}.")
        return data
