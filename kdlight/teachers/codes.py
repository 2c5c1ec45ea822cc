"""A codec as a teacher whose answers are kept: the codes of whole recordings."""

from typing import Any

import torch
from torch import Tensor

from kdlight.codec.codec import Codec
from kdlight.errors import InputError
from kdlight.storage.audio import read_audio
from kdlight.storage.tokens import digest_of
from kdlight.teachers.frames import FrozenTeacher, Source, Waveform


class CodesOf(FrozenTeacher):
    """What a codec makes of a recording, for :class:`~kdlight.teachers.cache.FeatureCache`.

    Args:
        codec: In evaluation mode.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        self.freeze()

    def identity(self) -> dict[str, Any]:
        return {"class": "codes", "codec": digest_of(self.codec.state_dict())}

    @torch.no_grad()
    def describe(self, source: Source) -> dict[str, Tensor]:
        """``codes`` (F, n_q) int64.

        Raises:
            InputError: It is no audio, or of another rate than the codec.
        """
        rate = self.codec.sample_rate
        if isinstance(source, str) or (isinstance(source, Waveform) and source.sample_rate != rate):
            raise InputError(f"codec: expected audio of {rate} Hz, found another source.")
        samples = source.samples if isinstance(source, Waveform) else read_audio(source, rate)
        codes: Tensor = self.codec.encode(samples[None].to(self.device))[0]
        return {"codes": codes.T.contiguous().cpu()}
