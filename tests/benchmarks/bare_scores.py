"""Score distillation as one writes it without kdlight: DMD2 with its discriminator."""

import copy

import torch
from torch import Tensor, nn

from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.networks.images.discriminator import FeatureHead
from kdlight.training.optim import Optimization
from tests.benchmarks.bare import Trained


class BareDMD2:
    """One update of the critic a step, one of the student every ``student_every``.

    The head judges the output of one block, and the same passes are made as by
    kdlight: all of the network, also where its activations alone are judged.
    """

    def __init__(
        self,
        teacher: EDMDenoiser,
        head: FeatureHead,
        settings: Optimization,
        half_life: float,
        steps: int,
        student_every: int,
        layer: str = "blocks.1",
    ) -> None:
        self.layer = layer

        def trained(network: nn.Module) -> nn.Module:
            copied = copy.deepcopy(network).requires_grad_(True).train()
            for module in copied.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            return copied

        self.teacher = copy.deepcopy(teacher.network).requires_grad_(False).eval()
        self.student, self.fake = trained(teacher.network), trained(teacher.network)
        self.head = copy.deepcopy(head)
        self.sigma_data, self.sigma_max = teacher.sigma_data, teacher.sigma_max
        self.low, self.high = 0.02 ** (1 / 7), 80.0 ** (1 / 7)
        self.trained = Trained(self.student, settings, half_life, steps)
        critic = nn.ModuleList([self.fake, self.head])
        # Nobody samples from a critic: it has no average.
        self.critic = Trained(critic, settings, half_life, steps, averaged=False)
        self.student_every, self.done = student_every, 0

    def step(self, x0: Tensor, label: Tensor) -> None:
        noise = self.sigma_max * torch.randn_like(x0)
        largest = torch.full((len(x0), 1, 1, 1), self.sigma_max, device=x0.device)
        self.done += 1
        if self.done % self.student_every == 0:
            x = self.run(self.student, noise, largest, label)[0]
            self.hold(False)
            noisy, sigma = self.karras(x)
            with torch.no_grad():
                real = self.run(self.teacher, noisy, sigma, label)[0]
                fake = self.run(self.fake, noisy, sigma, label)[0]
                scale = (x - real).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
                goal = x - (fake - real) / scale
            score = 0.5 * ((x - goal) ** 2).mean()
            logits = self.logits(*self.karras(x), label)
            loss = score + 3e-3 * nn.functional.softplus(-logits).mean()
            self.trained.update(loss)
            self.hold(True)
            x = x.detach()
        else:
            with torch.no_grad():
                x = self.run(self.student, noise, largest, label)[0]
        sigma = (-1.2 + 1.2 * torch.randn(len(x), 1, 1, 1, device=x.device)).exp()
        estimate = self.run(self.fake, x + sigma * torch.randn_like(x), sigma, label)[0]
        weight = sigma**-2 + self.sigma_data**-2
        denoising = (weight * (estimate - x) ** 2).mean()
        real = self.logits(*self.karras(x0), label)
        fake = self.logits(*self.karras(x), label)
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
        self.critic.update(denoising + 1e-2 * loss)

    def hold(self, trained: bool) -> None:
        for parameter in self.critic.parameters:
            parameter.requires_grad_(trained)

    def karras(self, x: Tensor) -> tuple[Tensor, Tensor]:
        time = 0.02 + 0.96 * torch.rand(len(x), 1, 1, 1, device=x.device)
        sigma = (self.low + time * (self.high - self.low)) ** 7
        return x + sigma * torch.randn_like(x), sigma

    def logits(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = self.head([self.run(self.fake, x, sigma, label)[1]])
        return logits

    def run(
        self, network: nn.Module, x: Tensor, sigma: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """EDM's denoiser, and the activations on its way."""
        seen: list[Tensor] = []
        total = sigma**2 + self.sigma_data**2
        block = network.get_submodule(self.layer)
        hook = block.register_forward_hook(lambda module, inputs, output: seen.append(output))
        raw = network(x * total.rsqrt(), sigma.flatten().log() / 4, {"label": label})
        hook.remove()
        skip = self.sigma_data**2 / total
        return skip * x + sigma * self.sigma_data * total.rsqrt() * raw, seen[0]
