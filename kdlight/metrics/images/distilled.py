"""What a network is worth that was trained on a handful of images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlight.core.spec import rebuilt
from kdlight.metrics.images.probes import by_parts, linear_probe
from kdlight.networks.images.feature_pool import ConvEncoder


def pretrained(
    network: ConvEncoder, image: Tensor, target: Tensor, steps: int, seed: int, batch: int = 256
) -> ConvEncoder:
    """A fresh network of the same kind, trained to answer ``target``, in evaluation mode.

    AdamW at 0.002, falling in a cosine.

    Args:
        network: What it is like.
        image: (N, C, H, W).
        target: (N, outputs).
        steps: Updates; 0 leaves it untrained.
        seed: Of its weights and of the order of the images.
        batch: Images of an update.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        made = rebuilt(network).to(image.device)
        optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        for _ in range(steps):
            some = slice(None)
            chosen = torch.randperm(len(image))[:batch] if len(image) > batch else some
            optimizer.zero_grad()
            loss = F.mse_loss(made(image[chosen]), target[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return made.eval()


@torch.no_grad()
def transfer(
    network: ConvEncoder,
    few: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    wanted: Tensor,
) -> dict[str, float]:
    """Figures of a pre-trained network on images that it never saw.

    Args:
        network: The network.
        few: Labelled images, which a linear probe on its features learns from, and their labels.
        held: Held-out images and labels.
        wanted: The teacher's features of the held-out images, (M, outputs).

    Returns:
        ``linear_probe``, an accuracy, and ``feature_error``, the mean squared error to the
        teacher's features over their variance.
    """
    error = (by_parts(network, held[0]) - wanted).square().mean() / wanted.var(dim=0).mean()
    features, test = (by_parts(network.features, each[0]) for each in (few, held))
    return {
        "linear_probe": linear_probe(features, few[1], test, held[1]),
        "feature_error": float(error),
    }
