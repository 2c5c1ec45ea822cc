"""What DMD2 of SDXL at 1024 pixels takes on one GPU: counted without one, measured with one.

``python -m tests.gpu.sdxl`` counts on the meta device: real shapes, no memory, no arithmetic. One
set of teacher weights in bfloat16 carries two sets of adapters in float32, the student's and the
fake score's; latents and embeddings of prompts come from a cache, so no autoencoder and no text
encoder is there; blocks recompute their activations.
"""

import argparse
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdlight.networks.lora import UNET_LAYERS

SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
"""The network of stabilityai/stable-diffusion-xl-base-1.0: 2.57 billion weights."""

TINY = SDXL | {
    "sample_size": 8,
    "block_out_channels": (32, 32, 32),
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (1, 1, 1),
}


class SharedAdapters:
    """A network with adapters for a student and for a fake score on one set of weights.

    Args:
        settings: Of the ``UNet2DConditionModel``.
        rank: Of the adapters.
        device: Where all of it lies.
        checkpointing: Whether blocks recompute their activations.
    """

    def __init__(
        self, settings: dict[str, Any], rank: int, device: str, checkpointing: bool = True
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        torch.set_default_dtype(torch.bfloat16)  # never whole in float32
        try:
            with torch.device("meta"):
                self.unet = UNet2DConditionModel(**settings).requires_grad_(False)
                for name in ("student", "fake"):
                    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(UNET_LAYERS))
                    inject_adapter_in_model(config, self.unet, name)
        finally:
            torch.set_default_dtype(torch.float32)
        self.trained: dict[str, list[nn.Parameter]] = {"student": [], "fake": []}
        for path, module in self.unet.named_modules():
            part = path.rpartition(".")[2] if ".lora_" in path else None
            for name, old in module._parameters.items():
                if old is not None:
                    dtype = old.dtype if part is None else torch.float32
                    drawn = torch.randn(old.shape, dtype=dtype, device=device) * 0.02
                    made = nn.Parameter(drawn, requires_grad=part is not None)
                    module._parameters[name] = made
                    if part is not None:
                        self.trained[part].append(made)
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()
        self.average = [weight.detach().clone() for weight in self.trained["student"]]
        self.optimizers = {
            part: torch.optim.AdamW(weights, 1e-5) for part, weights in self.trained.items()
        }

    @contextmanager
    def adapted(self, part: str | None) -> Iterator[None]:
        """With the adapters of one part, trained; without any for the teacher."""
        for layer in (m for m in self.unet.modules() if isinstance(m, LoraLayer)):
            layer.enable_adapters(part is not None)
            if part is not None:
                layer.set_adapter([part])
        yield

    def denoise(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """Noise predicted by the network, (B, 4, h, w)."""
        added = {"text_embeds": condition["pooled"], "time_ids": condition["time_ids"]}
        out: Tensor = self.unet(
            x.bfloat16(), t, condition["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return out.float()


def batch_of(settings: dict[str, Any], size: int, device: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise and the cached embeddings of prompts."""
    side, pooled = settings["sample_size"], settings["projection_class_embeddings_input_dim"] - 1536
    with torch.device(device):
        condition = {
            "text": torch.randn(size, 77, settings["cross_attention_dim"], dtype=torch.bfloat16),
            "pooled": torch.randn(size, pooled, dtype=torch.bfloat16),
            "time_ids": torch.full((size, 6), 1024.0, dtype=torch.bfloat16),
        }
        return torch.randn(size, 4, side, side), condition


def step(model: SharedAdapters, noise: Tensor, condition: dict[str, Tensor]) -> None:
    """One update of both parts of DMD2 (arXiv:2405.14867): matching, guided, then denoising."""
    t = torch.full((len(noise),), 500, device=noise.device)
    with model.adapted("student"):
        x = noise - model.denoise(noise, t, condition)
    noisy = x.detach() + torch.randn_like(x)
    with torch.no_grad():
        with model.adapted(None):
            real = [model.denoise(noisy, t, condition) for _ in range(2)]  # with and without text
        with model.adapted("fake"):
            fake = model.denoise(noisy, t, condition)
    with model.adapted("student"):  # recomputed with the adapters of the first pass
        (x * (real[0] + 7 * (real[0] - real[1]) - fake)).mean().backward()
    update(model, "student")
    torch._foreach_lerp_(model.average, [p.detach() for p in model.trained["student"]], 0.01)
    with model.adapted("fake"):
        (model.denoise(noisy, t, condition) - x.detach()).square().mean().backward()
    update(model, "fake")


def update(model: SharedAdapters, part: str) -> None:
    """Clip, step, forget the gradient."""
    nn.utils.clip_grad_norm_(model.trained[part], 10.0)
    model.optimizers[part].step()
    model.optimizers[part].zero_grad(set_to_none=True)


class Peak(TorchDispatchMode):
    """Most bytes that live tensors had at one time, those made inside the block and ``before``."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.now = self.highest = before
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known and id(storage) not in given:
                    self._known.add(id(storage))
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        self.highest = max(self.highest, self.now)
        return out

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def count(
    settings: dict[str, Any], rank: int, size: int, checkpointing: bool = True
) -> dict[str, float]:
    """Bytes at the peak of a step, by kind, on the meta device.

    Returns:
        ``weights`` of network, adapters and average, ``optimizer``, ``peak`` of everything.
    """
    model = SharedAdapters(settings, rank, "meta", checkpointing)
    noise, condition = batch_of(settings, size, "meta")
    for part, trained in model.trained.items():  # a first update makes the moments
        for weight in trained:
            weight.grad = torch.zeros_like(weight)
        update(model, part)
    tensors = [*model.unet.parameters(), *model.average]
    moments = [
        value
        for optimizer in model.optimizers.values()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    held = [*tensors, *moments, noise, *condition.values()]
    with Peak(sum(tensor.nbytes for tensor in held)) as peak:
        step(model, noise, condition)
    return {
        "weights": float(sum(tensor.nbytes for tensor in tensors)),
        "optimizer": float(sum(tensor.nbytes for tensor in moments)),
        "peak": float(peak.highest),
    }


def rows(counted: Callable[..., dict[str, float]]) -> Iterator[str]:
    """Lines of the table of the guide."""
    for rank, size, checkpointing in ((64, 1, True), (64, 4, True), (16, 1, True), (64, 1, False)):
        found = counted(SDXL, rank, size, checkpointing)
        kind = "checkpointing" if checkpointing else "all activations kept"
        figures = ", ".join(f"{key} {value / 2**30:.2f}" for key, value in found.items())
        yield f"rank {rank}, batch {size}, {kind}: {figures} GiB"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tests.gpu.sdxl", description=__doc__).parse_args()
    for row in rows(count):
        print(row, flush=True)
