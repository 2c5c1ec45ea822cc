"""Codecs whose levels learn from teachers: SpeechTokenizer, DM-Codec, Mimi, FuseCodec."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec, CodecOutput
from kdlight.codec.frames import FrameGrid
from kdlight.codec.quantization import Quantized
from kdlight.errors import InputError
from kdlight.guidance.guidance import Fusion, Guidance
from kdlight.guidance.sources import check_places
from kdlight.training.base import Batch
from kdlight.training.data import speech_of
from kdlight.training.optim import Optimization
from modules.speech.codec_training import CodecTraining


class GuidedCodecDistillation(CodecTraining):
    """A codec in training, some of whose levels are pulled to the features of frozen teachers.

    ====================  =======================================================================
    paper                 guidances (see ``configs/speech/``)
    ====================  =======================================================================
    SpeechTokenizer       HuBERT, mean of layers; level 1; D-axis (arXiv:2308.16692, section 3.2)
    DM-Codec              BERT on level 1, and a speech model on levels 1 to 8 (arXiv:2410.15017)
    Mimi                  WavLM at the codec's rate; level 1 of a split quantiser; cosine
                          (arXiv:2410.00037, section 3.3)
    FuseCodec             global vectors, or tokens matched in windows (arXiv:2509.11425)
    ====================  =======================================================================

    The loss of each guidance is logged as ``train/<name>`` before its weight, which
    ``weights: {<name>: ...}`` gives, 1 if it does not. Heads are trained by the codec's optimizer
    and left out of what is exported.

    Args:
        codec: What is trained.
        optimizer: Of the codec and the heads.
        guidances: Teachers and what they pull, by name.
        weights: Of each term and guidance; a weight of 0 leaves it out.
        fusions: Teachers whose features are added to the latents in training, by name.
        kwargs: Of :class:`~modules.speech.codec_training.CodecTraining`.

    Raises:
        InputError: A name is taken, a level does not exist, or widths differ without a head.
    """

    def __init__(
        self,
        codec: Codec,
        optimizer: Optimization,
        guidances: dict[str, Guidance],
        weights: dict[str, float] | None = None,
        fusions: dict[str, Fusion] | None = None,
        **kwargs: Any,
    ) -> None:
        fusions = fusions or {}
        for key, names in (("guidances", list(guidances)), ("fusions", list(fusions))):
            for name in names:
                if name in self.term_weights or not name.isidentifier():
                    taken = ", ".join(self.term_weights)
                    raise InputError(f"{key}: expected names other than {taken}, found {name!r}.")
        self._guided = tuple(guidances)  # the weights are checked before parts can be registered
        super().__init__(codec, optimizer, weights=weights, **kwargs)
        for name, guidance in guidances.items():
            if max(guidance.levels) > codec.n_q:
                raise InputError(
                    f"guidances.{name}.levels: expected 1 to {codec.n_q}, found {guidance.levels}."
                )
        if both := sorted(guidances.keys() & fusions.keys()):
            raise InputError(f"fusions: expected names of no guidance, found {both[0]!r}.")
        self.guidances = guidances
        self.fusions = fusions
        self.grid = FrameGrid(codec.sample_rate, codec.hop_length)
        self.heads = nn.ModuleDict(
            {name: each.make_head(name, codec.quantizer.dim) for name, each in guidances.items()}
        )
        self.objectives = nn.ModuleDict({name: each.objective for name, each in guidances.items()})
        self.fusing = nn.ModuleDict(
            {
                name: nn.Linear(each.source.width, codec.quantizer.dim)
                for name, each in fusions.items()
            }
        )
        for part in (guidances, fusions):
            for name, each in part.items():
                self.add_frozen(f"{name}_teacher", each.source.teacher)

    def terms(self) -> dict[str, float]:
        return {**super().terms(), **dict.fromkeys(self._guided, 1.0)}

    def companions(self) -> list[str]:
        return ["heads", "objectives", "fusing"]

    def on_fit_start(self) -> None:
        """Let every source compute what it can: ranks share the work, then wait for each other."""
        data = speech_of(self.trainer, "guidances")
        utterances = data.training_utterances()
        active = [each for name, each in self.guidances.items() if self.weights[name] > 0]
        sources = [each.source for each in active] + [each.source for each in self.fusions.values()]
        check_places(data, sources)
        for source in sources:
            source.prepare(utterances, self.global_rank, self.trainer.world_size)
        self.trainer.strategy.barrier("features")
        for guidance in active:
            guidance.objective.prepare(guidance.source.examples(utterances))

    # The algorithm --------------------------------------------------------------------------

    def code(self, batch: Batch) -> CodecOutput:
        if not self.fusions:
            return super().code(batch)
        audio = batch["audio"]
        latents = self.codec.latents(audio)
        for name, fusion in self.fusions.items():
            with torch.no_grad():
                told = fusion.source.features(batch, self.grid, latents.transpose(1, 2))
            given = (self.noise.uniform(len(audio)) >= fusion.dropout)[:, None] & told.mask
            added = self.fusing[name](told.features) * given[..., None]
            latents = latents + added.transpose(1, 2)
        return self.reconstruct(latents, audio.shape[-1])

    def beside(self, batch: Batch, quantized: Quantized) -> dict[str, Tensor]:
        terms = super().beside(batch, quantized)
        for name, guidance in self.guidances.items():
            if self.weights[name] > 0 and guidance.share(self.iteration) > 0:
                terms[name] = self.guide(name, batch, quantized)
        return terms

    def guide(self, name: str, batch: Batch, quantized: Quantized) -> Tensor:
        """The loss of one guidance, ()."""
        guidance = self.guidances[name]
        students = [self.heads[name](level) for level in guidance.chosen(quantized.levels)]
        if not students:
            return quantized.latents.new_zeros(())
        with torch.no_grad():
            seen = torch.stack(students).mean(dim=0)
            target = guidance.source.features(batch, self.grid, seen)
        losses = [
            self.objectives[name](student, target.features, target.mask) for student in students
        ]
        return torch.stack(losses).mean()

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        others = {name: term for name, term in terms.items() if name not in self._guided}
        total = super().weighted(others)
        for name, guidance in self.guidances.items():
            if name in terms:
                share = guidance.share(self.iteration)
                total = total + self.weights[name] * share * terms[name]
        return total
