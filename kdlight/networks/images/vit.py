"""A vision transformer of which any patches may be left out, and what predicts those from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.core.ranges import LayerCount, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded
from kdlight.errors import InputError
from kdlight.networks.images.classifier import Classifier
from kdlight.networks.images.dit import grid_positions


@dataclass(frozen=True)
class Block:
    """What one block of a transformer made.

    Attributes:
        tokens: Its output, (B, 1 + n, width), the class token first.
        queries: Of its attention, (B, heads, 1 + n, d).
        keys: The same shape.
        values: The same shape.
    """

    tokens: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor


class TokenEncoder(Recorded, nn.Module):
    """Base of the networks that turn patches into tokens.

    Attributes:
        width: Channels of a token.
        depth: Number of blocks.
        patches: Patches N of an image.
        patch_size: Their height and width.
        provenance: Where its weights came from; None if they were drawn here.
    """

    width: int
    depth: int
    patches: int
    patch_size: int
    provenance: dict[str, str] | None = None

    def walk(
        self, image: Tensor, keep: Tensor | None = None, until: int | None = None
    ) -> list[Block]:
        """What the blocks make of an image.

        Args:
            image: (B, C, H, W) in [-1, 1].
            keep: Numbers of the patches that are seen, (B, n) int64, in any order, which the tokens
                have too; None for all.
            until: How many blocks are run; None for all.
        """
        raise NotImplementedError

    def features(self, image: Tensor) -> Tensor:
        """Mean of the last block's patch tokens, (B, width)."""
        return self.walk(image)[-1].tokens[:, 1:].mean(dim=1)


class ViTBlock(nn.Module):
    """Pre-norm attention and perceptron (Dosovitskiy et al., arXiv:2010.11929).

    Queries, keys and values have no bias: a key's has no effect, and an optimizer that divides by
    the size of gradients would move it by rounding errors.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        ratio: Hidden width of the perceptron over ``width``.
    """

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        hidden = int(ratio * width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Block:
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.attention_norm(tokens)).chunk(3, dim=2)
        )
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        return Block(tokens + self.mlp(self.mlp_norm(tokens)), queries, keys, values)


def taken(tokens: Tensor, keep: Tensor) -> Tensor:
    """Tokens (B, N, D) at the places ``keep`` (B, n), (B, n, D)."""
    return tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))


class ViT(TokenEncoder):
    """A vision transformer with a class token and fixed positions of sines and cosines.

    Positions are added before patches are left out, as masked autoencoders have to.

    Args:
        size: Height and width of the image, a multiple of ``patch_size``.
        channels: Image channels.
        patch_size: Height and width of a patch.
        width: Channels of a token, a multiple of 4 and of ``heads``.
        depth: Number of blocks.
        heads: Attention heads.
        ratio: Hidden width of the perceptrons over ``width``.

    Raises:
        InputError: The sizes do not divide.
    """

    positions: Tensor

    def __init__(
        self,
        size: PositiveInt = 28,
        channels: PositiveInt = 1,
        patch_size: PositiveInt = 4,
        width: PositiveInt = 64,
        depth: LayerCount = 4,
        heads: PositiveInt = 4,
        ratio: PositiveFloat = 4.0,
    ) -> None:
        super().__init__()
        if size % patch_size or width % 4 or width % heads:
            raise InputError(
                "ViT: expected a size of whole patches and a width that is a multiple of 4 and of "
                f"heads, found size {size}, patch_size {patch_size}, width {width}, heads {heads}."
            )
        self.shape = (channels, size, size)
        self.width, self.depth, self.patch_size = width, depth, patch_size
        side = size // patch_size
        self.patches = side**2
        self.embed = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", grid_positions(side, side, width), persistent=False)
        self.blocks = nn.ModuleList(ViTBlock(width, heads, ratio) for _ in range(depth))

    def walk(
        self, image: Tensor, keep: Tensor | None = None, until: int | None = None
    ) -> list[Block]:
        tokens = self.embed(image).flatten(2).transpose(1, 2) + self.positions
        tokens = tokens if keep is None else taken(tokens, keep)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        made: list[Block] = []
        for block in self.blocks[:until]:
            made.append(block(tokens))
            tokens = made[-1].tokens
        return made


class MaskedAutoencoder(Recorded, nn.Module):
    """An encoder of the visible patches and a small decoder that predicts the pixels of all.

    He et al., arXiv:2111.06377.

    Args:
        encoder: What is kept after training.
        width: Channels of the decoder's tokens.
        depth: Blocks of the decoder.
        heads: Its attention heads.
    """

    positions: Tensor

    def __init__(
        self,
        encoder: ViT,
        width: PositiveInt = 32,
        depth: LayerCount = 1,
        heads: PositiveInt = 4,
    ) -> None:
        super().__init__()
        if width % 4 or width % heads:
            raise InputError(
                f"width: expected a multiple of 4 and of heads {heads}, found {width}."
            )
        self.encoder = encoder
        self.shape = encoder.shape
        side = encoder.shape[1] // encoder.patch_size
        self.norm = nn.LayerNorm(encoder.width, eps=1e-6)
        self.enter = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", grid_positions(side, side, width), persistent=False)
        self.blocks = nn.ModuleList(ViTBlock(width, heads, 4.0) for _ in range(depth))
        pixels = encoder.shape[0] * encoder.patch_size**2
        self.leave = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, pixels))

    def decode(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Pixels of all patches, (B, N, C p p), in the order of the image.

        Args:
            tokens: Of the encoder's last block, (B, 1 + n, width).
            keep: Which patches they are of, (B, n).
        """
        seen = self.enter(self.norm(tokens))
        count, width = self.positions.shape
        place = keep[..., None].expand(-1, -1, width)
        hidden = self.mask_token.to(seen.dtype).expand(len(keep), count, -1)
        whole = hidden.scatter(1, place, seen[:, 1:])
        tokens = torch.cat([seen[:, :1], whole + self.positions], dim=1)
        for block in self.blocks:
            tokens = block(tokens).tokens
        pixels: Tensor = self.leave(tokens[:, 1:])
        return pixels

    def forward(self, image: Tensor, keep: Tensor) -> Tensor:
        """Pixels of all patches from those that are kept."""
        return self.decode(self.encoder.walk(image, keep)[-1].tokens, keep)


class TransformersViTMAE(TokenEncoder):
    """The encoder of transformers' ``ViTMAEModel``, as far as it is needed.

    Args:
        config: Its configuration as transformers writes it (``config.json``).
        blocks: How many blocks are kept; None for all.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.

    Raises:
        InputError: It is no configuration of such a model.
    """

    mean: Tensor
    std: Tensor
    origin = "ViTMAEModel"

    def __init__(
        self,
        config: dict[str, Any],
        blocks: PositiveInt | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        try:
            settings, self.model = self._drawn(config)
        except Exception as error:  # as many types as there are settings
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise InputError(f"config: expected one of a {self.origin}, {reason}.") from None
        layers = self.model.layers
        del layers[blocks or len(layers) :]
        self.width, self.depth = settings.hidden_size, len(layers)
        self.patch_size = settings.patch_size
        self.patches = (settings.image_size // settings.patch_size) ** 2
        self.shape = (settings.num_channels, settings.image_size, settings.image_size)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @staticmethod
    def _drawn(config: dict[str, Any]) -> tuple[Any, Any]:
        """The settings and the model, of which all patches are seen."""
        from transformers import ViTMAEConfig, ViTMAEModel

        settings = ViTMAEConfig(**{**config, "mask_ratio": 0.0})
        return settings, ViTMAEModel(settings)

    def walk(
        self, image: Tensor, keep: Tensor | None = None, until: int | None = None
    ) -> list[Block]:
        inner = self.model.embeddings
        pixels = (image.expand(-1, len(self.mean), -1, -1) / 2 + 0.5 - self.mean) / self.std
        first, places = inner.position_embeddings[:, :1], inner.position_embeddings[:, 1:]
        tokens = inner.patch_embeddings(pixels) + places
        tokens = tokens if keep is None else taken(tokens, keep)
        start = (inner.cls_token + first).expand(len(tokens), -1, -1)
        tokens = torch.cat([start, tokens], dim=1)
        made: list[Block] = []
        for layer in self.model.layers[:until]:
            attention = layer.attention
            read = layer.layernorm_before(tokens)
            queries, keys, values = (
                project(read).unflatten(2, (attention.num_attention_heads, -1)).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
            tokens = tokens + attention.o_proj(mixed.transpose(1, 2).flatten(2))
            tokens = tokens + layer.mlp(layer.layernorm_after(tokens))
            made.append(Block(tokens, queries, keys, values))
        return made


class TransformersViT(TransformersViTMAE):
    """The same of transformers' ``ViTModel``, such as DeiT without a token of distillation.

    Args:
        config: Its configuration as transformers writes it (``config.json``).
        blocks: How many blocks are kept; None for all.
        mean: Of each channel of pixels in [0, 1].
        std: Spread of each channel.

    Raises:
        InputError: It is no configuration of such a model.
    """

    origin = "ViTModel"

    @staticmethod
    def _drawn(config: dict[str, Any]) -> tuple[Any, Any]:
        from transformers import ViTConfig, ViTModel

        settings = ViTConfig(**config)
        return settings, ViTModel(settings, add_pooling_layer=False)


class ViTClassifier(Classifier):
    """A linear head on the mean of an encoder's patch tokens.

    Args:
        encoder: The encoder.
        num_classes: Number of classes.
    """

    def __init__(self, encoder: TokenEncoder, num_classes: PositiveInt) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_classes = num_classes
        self.norm = nn.LayerNorm(encoder.width, eps=1e-6)
        self.head = nn.Linear(encoder.width, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Class scores, (B, num_classes), of images (B, C, H, W) in [-1, 1]."""
        scores: Tensor = self.head(self.norm(self.encoder.features(image)))
        return scores
