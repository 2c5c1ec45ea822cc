"""How much the parts of a transformer do on calibration data (Minitron, arXiv:2407.14679, 2.2)."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.next_tokens import next_token_nll
from kdlight.surgery.anatomy import Anatomy

Batches = Iterable[tuple[Tensor, Tensor]]
"""Tokens (B, T), and which of them are no padding (B, T) bool."""


@dataclass(frozen=True)
class Importance:
    """Scores of the parts of a transformer, higher for what does more. All float64.

    Activations are blind to what is made of them: a unit that is large and that nobody reads
    scores high.

    Attributes:
        mlp: Of the hidden units of every block, (layers, mlp): ``|a|``, averaged over the tokens
            of a sequence, of which the root of the sum of squares over sequences is taken.
        heads: Of the heads of every block, (layers, heads): the same of the length of a head's
            output.
        width: Of channels, (width,): the same of what norms give, summed over the norms.
        layers: Of blocks, (layers,): the mean of ``1 - cos`` between what goes in and what comes
            out ("block influence", arXiv:2403.03853). Blind to scale.
        energy: Of every channel behind each norm, (norms, width): its mean square before the
            norm's own weight.
        nll: Of the data under the whole network, nats a token.
    """

    mlp: Tensor
    heads: Tensor
    width: Tensor
    layers: Tensor
    energy: Tensor
    nll: float

    def by_layers(self, scores: Tensor) -> "Importance":
        """The same with other scores of the blocks."""
        return replace(self, layers=scores)


class _Squares:
    """The root of the sum over sequences of squares of their mean over tokens."""

    def __init__(self) -> None:
        self.total: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor, real: Tensor) -> None:
        """Values (B, T, n), and which places are no padding (B, T)."""
        weight = real.double()[..., None]
        mean = (values.double() * weight).sum(dim=1) / weight.sum(dim=1)
        self.total = self.total.to(mean) + mean.square().sum(dim=0)

    def root(self) -> Tensor:
        return self.total.sqrt().cpu()


class _Watch:
    """Sums over all tokens, kept while a network runs."""

    def __init__(self, network: nn.Module, anatomy: Anatomy) -> None:
        self.network, self.anatomy = network, anatomy
        self.real = torch.ones(0, 0, dtype=torch.bool)
        self.mlp, self.heads = ([_Squares() for _ in anatomy.blocks] for _ in range(2))
        self.width = [_Squares() for _ in anatomy.norms]
        self.energy = [torch.zeros(anatomy.sizes.width).double() for _ in anatomy.norms]
        self.layers = torch.zeros(len(anatomy.blocks)).double()

    def attached(self, stack: ExitStack) -> None:
        """Hooks on the network, until the stack ends."""

        def hook(name: str, seen: Callable[[Tensor, Tensor], None]) -> None:
            def watch(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                given = args[0] if args else kwargs["hidden_states"]
                seen(given, output[0] if isinstance(output, tuple) else output)

            handle = self.network.get_submodule(name).register_forward_hook(watch, with_kwargs=True)
            stack.callback(handle.remove)

        for number, block in enumerate(self.anatomy.blocks):
            hook(block.behind_mlp, partial(self._units, number))
            hook(block.behind_heads, partial(self._heads, number))
            hook(block.name, partial(self._influence, number))
        for number, norm in enumerate(self.anatomy.norms):
            hook(norm, partial(self._normed, number))

    def _units(self, number: int, given: Tensor, made: Tensor) -> None:
        self.mlp[number].add(given.abs(), self.real)

    def _heads(self, number: int, given: Tensor, made: Tensor) -> None:
        each = given.reshape(*given.shape[:2], -1, self.anatomy.head_width)
        lengths = torch.linalg.vector_norm(each, dim=3)
        self.heads[number].add(lengths, self.real)

    def _influence(self, number: int, given: Tensor, made: Tensor) -> None:
        cosine = torch.cosine_similarity(given.double(), made.double(), dim=2)
        self.layers[number] += (1 - cosine)[self.real].sum().cpu()

    def _normed(self, number: int, given: Tensor, made: Tensor) -> None:
        self.width[number].add(made.abs(), self.real)
        module = self.network.get_submodule(self.anatomy.norms[number])
        values = given.double()
        if isinstance(module, nn.LayerNorm):
            values = values - values.mean(dim=2, keepdim=True)
        normal = values.square() / values.square().mean(dim=2, keepdim=True).clamp(min=1e-30)
        self.energy[number] += normal[self.real].sum(dim=0).cpu()


@torch.no_grad()
def measure(model: AutoregressiveModel, anatomy: Anatomy, batches: Batches) -> Importance:
    """Run a model over calibration data and score its parts.

    Args:
        model: In evaluation mode.
        anatomy: Of its network.
        batches: The data; how they are cut into batches changes no score but by rounding.

    Raises:
        InputError: There are none.
    """
    watch = _Watch(model.network, anatomy)
    nll, count = 0.0, 0
    with ExitStack() as stack:
        watch.attached(stack)
        for tokens, real in batches:
            watch.real = real
            each = next_token_nll(model(tokens), tokens.long())
            nll += float(each[real].double().sum())
            count += int(real.sum())
    if not count:
        raise InputError("calibration: expected sequences of tokens, found none.")
    return Importance(
        mlp=torch.stack([each.root() for each in watch.mlp]),
        heads=torch.stack([each.root() for each in watch.heads]),
        width=torch.stack([each.root() for each in watch.width]).sum(dim=0),
        layers=watch.layers / count,
        energy=torch.stack(watch.energy) / count,
        nll=nll / count,
    )


@torch.no_grad()
def loss_without_layers(model: AutoregressiveModel, anatomy: Anatomy, batches: Batches) -> Tensor:
    """Nats a token without each block alone, (layers,) float64: Minitron's other score of depth.

    Args:
        model: In evaluation mode.
        anatomy: Of its network.
        batches: The data, which are gone through once for every block.
    """

    def skip(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        given = args[0] if args else kwargs["hidden_states"]
        return (given, *output[1:]) if isinstance(output, tuple) else given

    held = list(batches)
    found = []
    for block in anatomy.blocks:
        handle = model.network.get_submodule(block.name).register_forward_hook(
            skip, with_kwargs=True
        )
        try:
            each = [next_token_nll(model(tokens), tokens.long())[real] for tokens, real in held]
        finally:
            handle.remove()
        found.append(torch.cat(each).double().mean().cpu())
    return torch.stack(found)
