"""Any voice to one, from unannotated speech and two critics (arXiv:2305.09167)."""

import torch
from torch import Tensor, nn

from kdlight.codec.frames import FrameGrid
from kdlight.errors import InputError
from kdlight.guidance.disentanglement import OneCorpus
from kdlight.guidance.sources import CorpusSource, FeatureSource, check_places
from kdlight.losses.guidance import mean_where
from kdlight.networks.speech.converter import VoiceConverter
from kdlight.training.base import Batch, DistillationModule
from kdlight.training.data import data_of
from kdlight.training.optim import Optimization

CRITICS = ("content", "mel")


class AdversarialConversion(DistillationModule):
    """A speech model's frames become the spectrogram of one voice, whoever speaks.

    Trained on the target voice alone a converter lets the timbre of others through, for it has
    never heard them. External recordings, whose speakers nobody knows, have no spectrogram to
    learn from: of them ``content`` wants codes that pass for the target's, and ``mel`` converted
    spectrograms that pass for recorded ones. A batch holds both corpora.

    The abstract names the two discriminators and where they sit; kinds and sizes are ours (least
    squares, three convolutions, one optimizer for all). A critic's weight rises from nothing, as
    DANN's does (arXiv:1505.07818).

    Args:
        converter: What is trained.
        source: The speech model.
        target: Speaker of the target corpus, as the data name it.
        optimizer: Of the converter and the critics.
        iterations: Length of the run in training batches.
        critics: ``content`` and ``mel``, either or none.
        weights: Of ``reconstruction`` and of each critic; 1, and 0.1 of ``content``, by default. A
            critic of weight 0 is left out.
        ramp: Iterations over which the critics' weights rise.
        accumulate: Batches per update.
        seed: Seed of the step noise.
        max_non_finite: Skipped updates in a row after which the run stops.

    Raises:
        InputError: A critic or a weight has another name, a width does not fit, or a number is
            out of range.
    """

    def __init__(
        self,
        converter: VoiceConverter,
        source: FeatureSource,
        target: str,
        optimizer: Optimization,
        iterations: int,
        critics: dict[str, OneCorpus] | None = None,
        weights: dict[str, float] | None = None,
        ramp: int = 0,
        accumulate: int = 1,
        seed: int = 0,
        max_non_finite: int = 10,
    ) -> None:
        super().__init__(iterations, {"converter": optimizer}, accumulate, seed, max_non_finite)
        critics, weights = critics or {}, weights or {}
        usual = {"reconstruction": 1.0, "content": 0.1, "mel": 1.0}
        for key, given, known in (("critics", critics, CRITICS), ("weights", weights, usual)):
            for name in given:
                if name not in known:
                    raise InputError(f"{key}: expected some of {', '.join(known)}, found {name}.")
        if min(weights.values(), default=0) < 0 or ramp < 0:
            raise InputError(f"weights and ramp: expected at least 0, found {weights}, {ramp}.")
        widths = {"content": converter.content, "mel": converter.bands}
        for name, critic in critics.items():
            if critic.width(1) != widths[name]:
                raise InputError(
                    f"critics.{name}: expected {widths[name]} channels, found {critic.width(1)}."
                )
        if converter.width != source.width:
            raise InputError(
                f"converter.width: expected {source.width} of the speech model, "
                f"found {converter.width}."
            )
        self.converter = converter
        self.source = source
        self.corpus = CorpusSource(target)
        self.critics = nn.ModuleDict(critics)
        self._told = critics
        self.weights = usual | weights
        self.ramp = ramp
        self.grid = FrameGrid(converter.sample_rate, converter.hop_length)
        self.add_frozen("teacher", source.teacher)

    def models(self) -> dict[str, tuple[str, nn.Module]]:
        return {"converter": ("converter", self.converter)}

    def trained(self, name: str) -> list[nn.Parameter]:
        return super().trained(name) + list(self.critics.parameters())

    def on_fit_start(self) -> None:
        """Let the speech model hear the recordings; measure the target's bands once."""
        data = data_of(self.trainer)
        if not hasattr(data, "training_utterances"):
            raise InputError(f"source: expected data of speech, found {type(data).__name__}.")
        if (data.sample_rate, data.hop_length) != self.grid[:2]:
            raise InputError(
                f"data: expected {self.grid.sample_rate} Hz and frames of {self.grid.hop_length} "
                f"samples of the converter, found {data.sample_rate} and {data.hop_length}."
            )
        check_places(data, [self.source])
        utterances = data.training_utterances()
        self.corpus.prepare(utterances)
        self.source.prepare(utterances, self.global_rank, self.trainer.world_size)
        self.trainer.strategy.barrier("features")
        if self.iteration == 0:
            own = [each for each in utterances if each.speaker == self.corpus.target]
            self.converter.spectrum.learn(each.read().to(self.device) for each in own[:48])

    # The algorithm ----------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        with torch.no_grad():
            heard = self.converter.heard(batch["audio"])
            frames = self.source.features(batch, self.grid, heard)
            corpus, mask = self.corpus.features(batch, self.grid, heard)
        mask = mask & frames.mask
        target = mask & (corpus[..., 0] > 0.5)
        content = self.converter.encode(frames.features)
        mel = self.converter.decode(content)
        # Of external recordings there is nothing to reconstruct, and of the target nothing to
        # confuse: there the critic of spectrograms sees the recorded one.
        error = (mel - heard).abs().mean(dim=-1)
        terms = {"reconstruction": mean_where(error, target)}
        seen = {"content": content, "mel": torch.where(target[..., None], heard, mel)}
        right: dict[str, Tensor] = {}
        for name, critic in self._told.items():
            if self.weights[name] == 0:
                continue
            terms[name] = critic(seen[name], corpus, mask)
            right[f"{name}_right"] = critic.right
        self.optimize("converter", self.total(terms))
        self.report(terms | right)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum, in which critics come in slowly, ()."""
        share = min(1.0, (self.iteration + 1) / (self.ramp + 1))
        parts = [
            self.weights[name] * (1.0 if name == "reconstruction" else share) * term
            for name, term in terms.items()
        ]
        return torch.stack(parts).sum()
