"""From phones to audio by way of a codec's codes: Pheme's two models and the codec, together."""

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.core.noise import mix
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.networks.speech.acoustic_filler import AcousticFiller
from kdlight.networks.speech.phone_text import read_phones
from kdlight.networks.speech.semantic_writer import SemanticWriter
from kdlight.storage.tokens import digest_of

AT_ONCE = 16
"""Pieces of a text that are spoken together."""
SHORTEST, QUIETEST = 0.25, 1e-3
"""Seconds of a prompt at least, and its root mean square at least."""


def digest_bytes(codec: Codec) -> Tensor:
    """Digest of a codec's weights, (32,) uint8, as models of its codes keep it."""
    found = bytes.fromhex(digest_of(codec.state_dict()))
    return torch.frombuffer(bytearray(found), dtype=torch.uint8)


class TokenTalker(nn.Module):
    """T2S, A2S and the codec whose codes both know.

    Args:
        writer: Phones to codes of the first level.
        filler: The other levels.
        codec: The codec.

    Raises:
        InputError: One of them knows the codes of another codec.
    """

    def __init__(self, writer: SemanticWriter, filler: AcousticFiller, codec: Codec) -> None:
        super().__init__()
        self.writer, self.filler, self.codec = writer, filler, codec
        digest = digest_bytes(codec)
        for name, model in (("checkpoint", writer), ("acoustic", filler)):
            if not torch.equal(model.codec.cpu(), digest):
                raise InputError(
                    f"{name}: expected a model of the codes of this codec "
                    f"({digest[:4].numpy().tobytes().hex()}...), found one of another "
                    f"({model.codec[:4].cpu().numpy().tobytes().hex()}...)."
                )

    @torch.no_grad()
    def prompt_of(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (levels, F) of a prompt, and its voice.

        Args:
            audio: (1, T) at the codec's rate.

        Raises:
            InputError: It is too short or silent.
        """
        seconds = audio.shape[-1] / self.codec.sample_rate
        if seconds < SHORTEST:
            raise InputError(
                f"prompt: expected {SHORTEST} s of speech or more, found {seconds:.2f} s."
            )
        level = float(audio.float().square().mean().sqrt())
        if not level > QUIETEST:
            raise InputError(f"prompt: expected speech, found silence (level {level:.1e}).")
        codes = self.codec.encode(audio[None].to(self.filler.table))[0]
        return codes, self.codec.quantizer.decode(codes[None])[0].mean(dim=1)

    @torch.no_grad()
    def speak(
        self,
        text: str,
        speaker: int = 0,
        steps: int = 16,
        seed: int = 0,
        prompt: Tensor | None = None,
        temperature: float = 0.7,
    ) -> Tensor:
        """Say a text, (1, T).

        Args:
            text: Words of phones: see :func:`kdlight.networks.speech.phone_text.read_phones`.
            speaker: Which of the filler's voices; without a prompt.
            steps: Calls for the second level.
            seed: Seed of all draws.
            prompt: Speech (1, T) of the voice to speak in.
            temperature: Of the first level's draws.

        Raises:
            InputError: The text, the voice or the prompt are not what it knows.
        """
        if prompt is None and not 0 <= speaker < self.filler.voices:
            raise InputError(
                f"speaker: expected a voice from 0 to {self.filler.voices - 1}, found {speaker}."
            )
        pieces = read_phones(text, self.writer.phones)
        device = self.filler.table.device
        if prompt is None:
            begun = torch.zeros(self.filler.levels, 0, dtype=torch.int64, device=device)
            voice = self.filler.table[speaker]
        else:
            begun, voice = self.prompt_of(prompt)
        parts = []
        for start in range(0, len(pieces), AT_ONCE):
            rows = [torch.tensor(piece) for piece in pieces[start : start + AT_ONCE]]
            phones = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
            draws = RowDraws(torch.arange(start, start + len(rows), device=device), mix(seed))
            first, frames = self.writer.write(phones, draws, temperature)
            above = (len(rows), self.filler.levels - 1, first.shape[1])
            codes = torch.cat([first[:, None], first.new_full(above, self.filler.unknown)], dim=1)
            codes = torch.cat([begun.expand(len(rows), -1, -1), codes], dim=2)
            place = torch.arange(codes.shape[2], device=device)
            mask = place < (frames + begun.shape[1])[:, None]
            filled = self.filler.fill(codes, voice.expand(len(rows), -1), mask, draws, steps)
            for row, count in enumerate(frames.tolist()):
                kept = filled[row : row + 1, :, begun.shape[1] :][..., :count]
                parts.append(self.codec.decode(kept)[0])
        return torch.cat(parts, dim=-1)
