"""From a list of hypotheses to one sentence, told by how they differ what the noise was."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.text.token_transformer import (
    TransformerBlock,
    checked_head_width,
    rotary_angles,
)


def noise_embedding(vectors: Tensor) -> Tensor:
    """How far hypotheses differ, E = [E_utt; E_tok] (RobustGER, arXiv:2401.10446, section 3.2).

    Of each pair i > j the difference of sentence vectors, which are sums of word vectors brought
    to length 1, and the sum of the differences of aligned words. With an empty place as zero that
    sum is one of two bags of words, whatever the alignment: it does not know where words differ.

    Args:
        vectors: Word vectors of each hypothesis, (B, N, L, W); zero where it has no word.

    Returns:
        (B, N (N - 1), W); each half has a rank of at most N - 1.
    """
    bags = vectors.sum(dim=2)
    sentences = F.normalize(bags, dim=-1)
    pairs = [(i, j) for i, j in itertools.product(range(vectors.shape[1]), repeat=2) if i > j]
    rows = [each[:, i] - each[:, j] for each in (sentences, bags) for i, j in pairs]
    return torch.stack(rows, dim=1)


class NoiseProjector(nn.Module):
    """T of the paper: rows of E (B, U, W) to vectors (B, U, width), a perceptron each.

    Args:
        words: Channels W.
        width: Of the vectors.
    """

    def __init__(self, words: PositiveInt, width: PositiveInt) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(words, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, embedding: Tensor) -> Tensor:
        projected: Tensor = self.layers(embedding)
        return projected


class Corrector(Recorded, nn.Module):
    """Words of hypotheses that are aligned, and a prompt less the noise, to words.

    The prompt is ``G - g RMSNorm(T(E))`` with the gate g zero at the start, as in LLaMA-Adapter
    (arXiv:2303.16199). At the start the output is the first hypothesis.

    Args:
        vocabulary: Words V.
        words: Channels W of the word vectors that hypotheses are compared by.
        hypotheses: N of a list.
        width: Channels, a multiple of ``2 * heads``.
        depth: Number of blocks.
        heads: Attention heads.

    Attributes:
        word_vectors: (V, W); zeros until training has filled them in.
    """

    word_vectors: Tensor

    def __init__(
        self,
        vocabulary: PositiveInt,
        words: PositiveInt,
        hypotheses: PositiveInt = 5,
        width: PositiveInt = 64,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.head_width = checked_head_width(width, heads)
        self.width = width
        prompt = hypotheses * (hypotheses - 1)
        self.register_buffer("word_vectors", torch.zeros(vocabulary, words))
        self.embeddings = nn.ModuleList(nn.Embedding(vocabulary, width) for _ in range(hypotheses))
        self.projector = NoiseProjector(words, width)
        self.noise_norm = nn.RMSNorm(width)
        self.prompt = nn.Parameter(0.02 * torch.randn(prompt, width))
        self.gate = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, 4.0, 0.0, causal=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # What each hypothesis has to say for itself, the first alone at the start.
        self.copy = nn.Parameter(4.0 * F.one_hot(torch.tensor(0), hypotheses).float())

    def noise(self, hypotheses: Tensor) -> Tensor:
        """T(E) (B, U, width) of lists (B, N, L) int64."""
        projected: Tensor = self.projector(noise_embedding(self.word_vectors[hypotheses]))
        return projected

    def forward(self, hypotheses: Tensor, noise: Tensor | None) -> Tensor:
        """Logits (B, L, V).

        Args:
            hypotheses: Word of every place of a list, (B, N, L) int64.
            noise: What :meth:`noise` says of them; None for a prompt that knows of none.
        """
        heard = torch.stack(
            [embed(hypotheses[:, rank]) for rank, embed in enumerate(self.embeddings)]
        ).sum(dim=0)
        prompt = self.prompt.expand(len(heard), -1, -1)
        if noise is not None:
            prompt = prompt - self.gate * self.noise_norm(noise)
        hidden = torch.cat([prompt, heard], dim=1)
        angles = rotary_angles(hidden.shape[1], self.head_width).to(hidden.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        said = self.head(self.norm(hidden[:, prompt.shape[1] :]))
        votes = F.one_hot(hypotheses, self.vocabulary).to(said.dtype)
        logits: Tensor = said + torch.einsum("bnlv,n->blv", votes, self.copy)
        return logits


class PairCritic(Recorded, nn.Module):
    """psi: a score of a noise embedding and of what is said of audio (MINE, arXiv:1801.04062).

    Bounded, for the exponential of one score is the mean of a batch.

    Args:
        width: Channels of the embedding's rows.
        audio: Channels of the audio.
        hidden: Channels inside.
        bound: Largest score, nats.
    """

    def __init__(
        self, width: PositiveInt, audio: PositiveInt, hidden: PositiveInt = 64, bound: float = 10.0
    ) -> None:
        super().__init__()
        self.bound = bound
        self.rows = nn.Linear(width, hidden)
        self.layers = nn.Sequential(
            nn.Linear(hidden + audio, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, noise: Tensor, audio: Tensor) -> Tensor:
        """Scores (B,) of (B, U, width) and (B, audio)."""
        pooled = F.gelu(self.rows(noise)).mean(dim=1)
        scores: Tensor = self.layers(torch.cat([pooled, audio], dim=1))[:, 0]
        return self.bound * torch.tanh(scores / self.bound)
