"""The training loops one writes without kdlight: plain float32 PyTorch, nothing wasted.

They take the same networks, losses, optimizer (AdamW, foreach), average and learning-rate
schedule as kdlight's modules, hold the same data in memory and skip updates that are no numbers.
"""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.training.optim import Optimization


def batches(image: Tensor, label: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end; a batch may span two passes, as kdlight's do."""
    order = torch.randperm(len(image))
    position = 0
    while True:
        if position + size > len(order):
            order = torch.cat([order[position:], torch.randperm(len(image))])
            position = 0
        index = order[position : position + size]
        position += size
        yield image[index], label[index]


class Trained:
    """A network, its optimizer, its average and its schedule."""

    def __init__(
        self,
        network: nn.Module,
        settings: Optimization,
        half_life: float,
        steps: int,
        averaged: bool = True,
    ) -> None:
        self.network = network
        self.settings = settings
        self.half_life = half_life
        self.steps = steps
        self.done = 0
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            foreach=True,
        )
        self.average = list(copy.deepcopy(network).requires_grad_(False).parameters())
        self.averaged = averaged

    def update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        done, warmup = self.done, self.settings.warmup
        if done < warmup:
            lr = self.settings.lr * (done + 1) / warmup
        else:
            share = (done - warmup) / (self.steps - warmup)
            lr = self.settings.lr * (0.5 + 0.5 * math.cos(math.pi * share))
        self.optimizer.param_groups[0]["lr"] = lr
        # The guard of kdlight: an update that is no number is left out.
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not torch.isfinite(norm).item():
            return
        self.optimizer.step()
        half_life = min(self.half_life, 0.05 * done)
        decay = 0.5 ** (1 / half_life) if half_life > 0 else 0.0
        if self.averaged:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.done += 1


def edm(network: nn.Module, sigma_data: float, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    """EDM's denoiser (arXiv:2206.00364, table 1); ``sigma`` is (B, 1, 1, 1)."""
    total = sigma**2 + sigma_data**2
    raw = network(x * total.rsqrt(), sigma.flatten().log() / 4, {"label": label})
    return sigma_data**2 / total * x + sigma * sigma_data * total.rsqrt() * raw


class BareDiffusion:
    """Training of an EDM denoiser (eq. 2)."""

    def __init__(
        self,
        denoiser: EDMDenoiser,
        settings: Optimization,
        half_life: float,
        steps: int,
        mean: float,
        std: float,
        class_dropout: float,
    ) -> None:
        self.network = copy.deepcopy(denoiser.network)
        self.sigma_data = denoiser.sigma_data
        self.num_classes = denoiser.num_classes
        self.mean, self.std, self.class_dropout = mean, std, class_dropout
        self.trained = Trained(self.network, settings, half_life, steps)

    def step(self, x0: Tensor, label: Tensor) -> None:
        dropped = torch.rand(len(label), device=label.device) < self.class_dropout
        label = torch.where(dropped, self.num_classes, label)
        sigma = (self.mean + self.std * torch.randn(len(x0), 1, 1, 1, device=x0.device)).exp()
        x = x0 + sigma * torch.randn_like(x0)
        estimate = edm(self.network, self.sigma_data, x, sigma, label)
        weight = sigma**-2 + self.sigma_data**-2
        self.trained.update((weight * (estimate - x0) ** 2).mean())


class BareProgressive:
    """A round of progressive distillation (arXiv:2202.00512): two DDIM steps in one."""

    def __init__(
        self,
        teacher: EDMDenoiser,
        settings: Optimization,
        half_life: float,
        steps: int,
        levels: Tensor,
    ) -> None:
        self.teacher = copy.deepcopy(teacher.network).requires_grad_(False).eval()
        self.student = copy.deepcopy(teacher.network).requires_grad_(True).train()
        self.sigma_data = teacher.sigma_data
        self.levels = levels.float().reshape(-1, 1, 1, 1)
        self.trained = Trained(self.student, settings, half_life, steps)

    def step(self, x0: Tensor, label: Tensor) -> None:
        start = 2 * torch.randint((len(self.levels) - 1) // 2, (len(x0),))
        high, middle, low = (self.levels[start + offset] for offset in range(3))
        x = x0 + high * torch.randn_like(x0)
        with torch.no_grad():
            estimate = edm(self.teacher, self.sigma_data, x, high, label)
            x_middle = estimate + middle / high * (x - estimate)
            estimate = edm(self.teacher, self.sigma_data, x_middle, middle, label)
            x_low = estimate + low / middle * (x_middle - estimate)
            ratio = low / high
            target = (x_low - ratio * x) / (1 - ratio)
        weight = (high**-2).clamp(min=1)
        estimate = edm(self.student, self.sigma_data, x, high, label)
        self.trained.update((weight * (estimate - target) ** 2).mean())


class BareConsistency:
    """Consistency distillation with Heun's step (arXiv:2303.01469), or tuning without a teacher."""

    def __init__(
        self,
        teacher: EDMDenoiser,
        settings: Optimization,
        half_life: float,
        steps: int,
        levels: Tensor | None = None,
    ) -> None:
        self.teacher = copy.deepcopy(teacher.network).requires_grad_(False).eval()
        self.student = copy.deepcopy(teacher.network).requires_grad_(True).train()
        self.sigma_data, self.sigma_min = teacher.sigma_data, teacher.sigma_min
        self.levels = None if levels is None else levels.float()
        self.trained = Trained(self.student, settings, half_life, steps)

    def step(self, x0: Tensor, label: Tensor) -> None:
        noise = torch.randn_like(x0)
        if self.levels is None:
            self._tune(x0, noise, label)
            return
        index = torch.randint(len(self.levels) - 1, (len(x0),))
        sigma, below = (self.levels[index + offset].reshape(-1, 1, 1, 1) for offset in (0, 1))
        x = x0 + sigma * noise
        with torch.no_grad():
            slope = (x - edm(self.teacher, self.sigma_data, x, sigma, label)) / sigma
            ahead = x + (below - sigma) * slope
            second = (ahead - edm(self.teacher, self.sigma_data, ahead, below, label)) / below
            x_below = x + (below - sigma) * (slope + second) / 2
        state = torch.get_rng_state()
        estimate = self.consistent(x, sigma, label)
        torch.set_rng_state(state)
        with torch.no_grad():
            target = self.consistent(x_below, below, label)
        self.trained.update(((estimate - target) ** 2).mean())

    def _tune(self, x0: Tensor, noise: Tensor, label: Tensor) -> None:
        sigma = (-1.1 + 2 * torch.randn(len(x0), 1, 1, 1, device=x0.device)).exp()
        below = (sigma * (1 - (1 + 8 * torch.sigmoid(-sigma)) / 2)).clamp(min=0)
        state = torch.get_rng_state()
        x, x_below = x0 + sigma * noise, x0 + below * noise
        estimate = edm(self.student, self.sigma_data, x, sigma, label)
        torch.set_rng_state(state)
        with torch.no_grad():
            safe = torch.where(below == 0, sigma, below)
            target = edm(self.student, self.sigma_data, x_below, safe, label)
            target = torch.where(below == 0, x_below, target)
        distance = torch.linalg.vector_norm((estimate - target).flatten(1), dim=1)
        self.trained.update((distance / (sigma - below).flatten()).mean())

    def consistent(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Preconditioned so that it is the identity at the smallest level."""
        shifted = sigma - self.sigma_min
        total = sigma**2 + self.sigma_data**2
        raw = self.student(x * total.rsqrt(), sigma.flatten().log() / 4, {"label": label})
        skip = self.sigma_data**2 / (shifted**2 + self.sigma_data**2)
        return skip * x + self.sigma_data * shifted * total.rsqrt() * raw
