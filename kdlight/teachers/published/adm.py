"""OpenAI's released image models: guided diffusion and consistency models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, Denoiser, EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid, PrefixGrid, TrailingGrid
from kdlight.errors import InputError
from kdlight.networks.images.edm.dhariwal import HEAD_CHANNELS, DhariwalUNet
from kdlight.networks.images.edm.layout import decoder_stages, encoder_stages
from kdlight.storage.files import load_tensors, sha256_of
from kdlight.teachers.published.arguments import build

Kind = Literal["edm", "consistency", "ddpm"]
QKVOrder = Literal["new", "legacy"]

RESIDUAL = {
    "norm0": "in_layers.0",
    "conv0": "in_layers.2",
    "affine": "emb_layers.1",
    "norm1": "out_layers.0",
    "conv1": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}
OUTSIDE = {
    "map_layer0": "time_embed.0",
    "map_layer1": "time_embed.2",
    "out_norm": "out.0",
    "out_conv": "out.2",
}
SECOND = 22
"""Where, among 40 levels, the second step of OpenAI's consistency distillation starts."""


@dataclass(frozen=True)
class Layout:
    """What names and shapes of the weights tell of the network.

    Attributes:
        channels: Image channels.
        outputs: Channels of the last convolution.
        num_classes: Number of classes.
        model_channels: Width of the noise embedding.
        widths: Channels of each resolution.
        num_blocks: Residual blocks at each resolution.
        attends: Resolutions with attention, 0 for the full one.
        scale_shift: Whether the embedding scales and shifts.
        plane: Whether attention is a convolution over planes, as in consistency models.
    """

    channels: int
    outputs: int
    num_classes: int
    model_channels: int
    widths: tuple[int, ...]
    num_blocks: int
    attends: tuple[int, ...]
    scale_shift: bool
    plane: bool


def adm_teacher(
    path: str | Path,
    kind: Kind | None = None,
    size: int | None = None,
    steps: int | None = None,
) -> Generator:
    """A ``.pt`` released with guided diffusion (arXiv:2105.05233) or consistency models.

    The file is a state dict and is read as such. It does not say how the network is
    preconditioned: ``edm_*.pt`` is ``edm``; ``cd_*.pt`` and ``ct_*.pt`` are ``consistency``. A
    network with a learned variance, which is not used, is ``ddpm``, on the cosine schedule at 64
    pixels and the linear one above.

    Args:
        path: The file.
        kind: Preconditioning; may be left out for a network with a learned variance.
        size: Height and width of the images; None takes it that the highest resolution with
            attention is 32, as in all released networks.
        steps: Default number of steps; None takes 40 Heun steps for ``edm``, 1 of at most 2 for
            ``consistency`` and 50 of DDIM for ``ddpm``.

    Raises:
        InputError: The file is missing or damaged, holds another network, or ``kind`` does not
            fit it.
    """
    path = Path(path)
    weights = load_tensors(path)
    try:
        generator = _generator(weights, kind, size, steps)
    except InputError as error:
        raise InputError(f"{path}: {error}".rstrip(".") + ".") from None
    except KeyError as error:
        raise InputError(
            f"{path}: expected the weights of OpenAI's U-Net, found no {error.args[0]}."
        ) from None
    generator.denoiser.provenance = {"source": str(path), "sha256": sha256_of(path)}
    return generator.eval()


def _generator(
    weights: dict[Any, Any], kind: Kind | None, size: int | None, steps: int | None
) -> Generator:
    layout = _layout(weights)
    learned = layout.outputs == 2 * layout.channels
    if kind is None and learned:
        kind = "ddpm"
    if kind not in (("ddpm",) if learned else ("edm", "consistency")):
        expected = "ddpm for a learned variance" if learned else "edm or consistency"
        raise InputError(f"kind: expected {expected}, found {kind or 'none'}")
    size = _size(layout) if size is None else size
    # The one release that fixes the number of heads instead of their width.
    heads = 4 if size == 128 and learned else None
    settings: dict[str, Any] = {
        "size": size,
        "channels": layout.channels,
        "num_classes": layout.num_classes,
        "model_channels": layout.model_channels,
        "channel_mult": [width / layout.model_channels for width in layout.widths],
        "num_blocks": layout.num_blocks,
        "attention": [size >> level for level in layout.attends],
        "heads": heads,
        "dropout": 0.0,
        "scale_shift": layout.scale_shift,
        "noise_scale": 1.0 if learned else 1000.0,
        "learned_variance": learned,
    }
    # guided diffusion's first network, and all consistency models, keep queries, keys and values
    # apart before heads; its others keep heads apart first.
    order: QKVOrder = "new" if layout.plane or size == 64 else "legacy"
    network = build(DhariwalUNet, settings, _renamed(weights, layout, size, order, heads))
    denoiser: Denoiser
    if kind == "ddpm":
        denoiser = VPDenoiser(network, "cosine" if size == 64 else "linear")
        grid = TrailingGrid(denoiser.alphas_cumprod.tolist())
        return Generator(denoiser, grid, network.shape, "euler", (steps or 50,))
    if kind == "edm":
        return Generator(EDMDenoiser(network), KarrasGrid(), network.shape, "heun", (steps or 40,))
    levels = KarrasGrid().sigmas(40)[[0, SECOND]].tolist()
    walks = (1, 2) if steps is None else (steps,)
    denoiser = ConsistencyDenoiser(network)
    return Generator(denoiser, PrefixGrid(levels), network.shape, "consistency", walks, False)


def _layout(weights: dict[Any, Any]) -> Layout:
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError("expected a state dict, tensors by name, found something else")
    if any(name.endswith(".op.weight") for name in weights):
        raise InputError("expected resampling inside residual blocks, found layers of its own")
    count = len({name.split(".")[1] for name in weights if name.startswith("input_blocks.")})
    if not count:
        raise InputError("expected weights called input_blocks.*, found none")
    # The last block of a resolution has the doubling one behind it.
    per_level = next(
        (
            index + 1
            for index in range(count)
            for place in (1, 2)
            if f"output_blocks.{index}.{place}.in_layers.2.weight" in weights
        ),
        count,
    )
    if count % per_level:
        raise InputError("expected as many blocks at every resolution, found others")
    firsts = range(1, count, per_level)
    block = weights["input_blocks.1.0.emb_layers.1.weight"]
    widths = tuple(len(weights[f"input_blocks.{first}.0.out_layers.3.weight"]) for first in firsts)
    label = weights.get("label_emb.weight")
    return Layout(
        channels=weights["input_blocks.0.0.weight"].shape[1],
        outputs=len(weights["out.2.weight"]),
        num_classes=0 if label is None else len(label),
        model_channels=weights["time_embed.0.weight"].shape[1],
        widths=widths,
        num_blocks=per_level - 1,
        attends=tuple(
            level
            for level, first in enumerate(firsts)
            if f"input_blocks.{first}.1.qkv.weight" in weights
        ),
        scale_shift=len(block) == 2 * widths[0],
        plane=weights["middle_block.1.qkv.weight"].ndim == 4,
    )


def _size(layout: Layout) -> int:
    if not layout.attends:
        raise InputError("size: expected a number for a network without attention, found none")
    return 32 << layout.attends[0]


def _renamed(
    weights: dict[str, Tensor], layout: Layout, size: int, order: QKVOrder, heads: int | None
) -> dict[str, Tensor]:
    """The weights under the names of :class:`DhariwalUNet`; what is left over keeps its own."""
    left = dict(weights)
    found = {}

    def move(ours: str, theirs: str, parts: dict[str, str]) -> None:
        for part, other in parts.items():
            for kind in ("weight", "bias"):
                value = left.pop(f"{theirs}.{other}.{kind}", None)
                if value is not None:
                    found[f"{ours}.{part}.{kind}".lstrip(".")] = value

    encoded = encoder_stages(
        (size, size), layout.channels, layout.widths[0], layout.widths, layout.num_blocks
    )
    move("enc", "input_blocks.0", {encoded[0].name: "0"})
    for index, stage in enumerate(encoded[1:], 1):
        move(f"enc.{stage.name}", f"input_blocks.{index}.0", RESIDUAL)
        move(f"enc.{stage.name}", f"input_blocks.{index}.1", ATTENTION)
    index = -1
    for stage in decoder_stages((size, size), encoded, layout.widths, layout.num_blocks):
        ours = f"dec.{stage.name}"
        if stage.kind in ("in0", "in1"):
            move(ours, f"middle_block.{0 if stage.kind == 'in0' else 2}", RESIDUAL)
            move(ours, "middle_block.1", ATTENTION if stage.kind == "in0" else {})
        elif stage.kind == "up":
            for place in (1, 2):
                move(ours, f"output_blocks.{index}.{place}", RESIDUAL)
        else:
            index += 1
            move(ours, f"output_blocks.{index}.0", RESIDUAL)
            move(ours, f"output_blocks.{index}.1", ATTENTION)
    for ours, theirs in OUTSIDE.items():
        move("", theirs.rpartition(".")[0], {ours: theirs.rpartition(".")[2]})
    if "label_emb.weight" in left:
        found["map_label.weight"] = left.pop("label_emb.weight").T
    for name, value in found.items():
        if ".qkv." in name:
            found[name] = _reordered(value, order, heads)
        elif name.endswith(".proj.weight"):
            found[name] = value.reshape(*value.shape[:2], 1, 1)
    return {**left, **found}


def _reordered(value: Tensor, order: QKVOrder, heads: int | None) -> Tensor:
    """Rows of queries, keys and values as (head, channel, which), planes of 1 x 1 for weights."""
    channels = len(value) // 3
    count = channels // HEAD_CHANNELS if heads is None else heads
    if order == "new":
        rows = value.reshape(3, count, channels // count, -1).movedim(0, 2)
    else:
        rows = value.reshape(count, 3, channels // count, -1).movedim(1, 2)
    return rows.reshape(value.shape if value.ndim == 1 else (*value.shape[:2], 1, 1))
