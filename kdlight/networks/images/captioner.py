"""A small model that writes captions of images, with one perceptron a block or several experts."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import LayerCount, PositiveInt
from kdlight.core.spec import Recorded, rebuilt
from kdlight.errors import InputError


class Routing(NamedTuple):
    """Whom a router chose.

    Attributes:
        law: Its softmax over the experts, (N, E).
        chosen: (N, k) int64.
    """

    law: Tensor
    chosen: Tensor


class Experts(nn.Module):
    """Perceptrons of which a router takes the likeliest ``top`` for each token.

    Their shares are the router's softmax over the chosen alone, so that equal experts are the one
    that they were copied from (sparse upcycling, arXiv:2212.05055).

    Args:
        width: Channels of a token.
        count: Number of experts; of one, none is chosen.
        top: How many work on a token.
    """

    def __init__(self, width: int, count: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(count)
        )
        # Not zeros, which would tie every choice.
        self.router = nn.Linear(width, count, bias=False) if count > 1 else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Routing | None]:
        """Tokens (B, T, width), and who worked on them; None where there is no choice."""
        if self.router is None:
            return self.members[0](tokens), None
        scores = self.router(tokens).float()
        best = scores.topk(self.top, dim=2)
        gates = best.values.softmax(dim=2).to(tokens.dtype)
        made = torch.stack([member(tokens) for member in self.members], dim=2)
        place = best.indices[..., None].expand(-1, -1, -1, tokens.shape[2])
        mixed = (gates[..., None] * made.gather(2, place)).sum(dim=2)
        return mixed, Routing(scores.softmax(dim=2).flatten(0, 1), best.indices.flatten(0, 1))


class CaptionBlock(nn.Module):
    """Pre-norm attention to what stands before, and experts.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        experts: Number of experts.
        top: How many work on a token.
    """

    def __init__(self, width: int, heads: int, experts: int, top: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.experts = Experts(width, experts, top)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Routing | None]:
        """Tokens (B, T, width), and who worked on them."""
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.attention_norm(tokens)).chunk(3, dim=2)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        tokens = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        made, routing = self.experts(self.mlp_norm(tokens))
        return tokens + made, routing


class Written(NamedTuple):
    """What a captioner says.

    Attributes:
        logits: Of each token from what stands before it, (B, T, V).
        routings: Of each block with experts.
    """

    logits: Tensor
    routings: list[Routing]


class CaptionWriter(nn.Module):
    """Base of what says how likely the words of an image's caption are.

    Attributes:
        vocabulary: Number of words V.
        length: Words of a caption T; None for any number.
        known_words: The words in order; None where they are numbers alone.
        provenance: Where its weights came from; None if they were drawn here.
    """

    vocabulary: int
    length: int | None
    known_words: list[str] | None = None
    provenance: dict[str, str] | None = None

    def forward(self, image: Tensor, tokens: Tensor) -> Written:
        """What it says of captions.

        Args:
            image: (B, C, H, W) in [-1, 1].
            tokens: (B, T) int64.
        """
        raise NotImplementedError


class Captioner(Recorded, CaptionWriter):
    """A transformer that reads an image's patches and then writes words.

    Args:
        vocabulary: Number of words V.
        length: Words of a caption T.
        channels: Image channels.
        size: Height and width of the image, a multiple of ``patch_size``.
        patch_size: Height and width of a patch.
        width: Channels of a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Attention heads.
        experts: Experts of a block; 1 is the dense model.
        top: How many of them work on a token.

    Raises:
        InputError: The sizes do not divide, or more experts work than there are.
    """

    def __init__(
        self,
        vocabulary: PositiveInt,
        length: PositiveInt,
        channels: PositiveInt = 1,
        size: PositiveInt = 8,
        patch_size: PositiveInt = 4,
        width: PositiveInt = 32,
        depth: LayerCount = 2,
        heads: PositiveInt = 4,
        experts: PositiveInt = 1,
        top: PositiveInt = 2,
    ) -> None:
        super().__init__()
        if size % patch_size or width % heads or (experts > 1 and top > experts):
            raise InputError(
                "Captioner: expected a size of whole patches, a width that is a multiple of heads "
                f"and no more experts at work than there are, found size {size}, patch_size "
                f"{patch_size}, width {width}, heads {heads}, experts {experts}, top {top}."
            )
        self.vocabulary, self.length = vocabulary, length
        self.shape = (channels, size, size)
        self.patches = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        places = (size // patch_size) ** 2 + length - 1
        self.places = nn.Parameter(torch.randn(places, width) * 0.02)
        self.words = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(CaptionBlock(width, heads, experts, top) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, image: Tensor, tokens: Tensor) -> Written:
        seen = self.patches(image).flatten(2).transpose(1, 2)
        both = torch.cat([seen, self.words(tokens[:, :-1])], dim=1) + self.places
        routings = []
        for block in self.blocks:
            both, routing = block(both)
            routings += [] if routing is None else [routing]
        return Written(self.head(self.norm(both[:, seen.shape[1] - 1 :])), routings)


def upcycled(dense: Captioner, experts: int = 4, top: int = 2) -> Captioner:
    """A model of experts that says what the dense one says: each begins as its perceptron.

    Args:
        dense: A model of one expert.
        experts: Experts of a block.
        top: How many of them work on a token.
    """
    made = rebuilt(dense, experts=experts, top=top)
    known, own = dense.state_dict(), made.state_dict()
    for name in own:
        before, member, after = name.partition(".members.")
        source = f"{before}.members.0.{after.partition('.')[2]}" if member else name
        own[name] = known.get(source, own[name])  # a router has no source
    made.load_state_dict(own)
    return made
