"""One codebook that follows the moving average of what it quantises, the same on every rank."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlight.core.noise import mix
from kdlight.core.ranks import joint_rows, joint_sum, of_first_rank
from kdlight.errors import InputError


class MovingAverageCodebook(nn.Module):
    """Euclidean codebook of VQ-VAE-2 (arXiv:1906.00446, equation 2), correct over ranks.

    Every training batch moves it by the joint statistics of all ranks, so that ranks hold the
    same bits, and the codes of the joint batch on one process.

    Args:
        dim: Channels.
        codebook_size: Number of codes K.
        decay: Of the moving average.
        expire_below: Share of an even use below which a code is replaced; 0 keeps all.
        kmeans_iterations: Lloyd steps on the first training batch.
        seed: Of the start and of replacements.

    Attributes:
        codebook: (K, D).
        cluster_size: Moving average of the frames of each code, (K,).
        cluster_sum: Moving average of the sum of those frames, (K, D).
        updates: Training batches so far, (); 0 before the codebook has begun.
    """

    codebook: Tensor
    cluster_size: Tensor
    cluster_sum: Tensor
    updates: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        decay: float,
        expire_below: float,
        kmeans_iterations: int,
        seed: tuple[int, ...],
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InputError(f"decay: expected a number in [0, 1), found {decay}.")
        if not 0 <= expire_below < 1:
            raise InputError(f"expire_below: expected a share in [0, 1), found {expire_below}.")
        self.decay = decay
        self.expire_below = expire_below
        self.kmeans_iterations = kmeans_iterations
        self.seed = seed
        generator = torch.Generator().manual_seed(mix(*seed))
        start = torch.randn(codebook_size, dim, generator=generator) * dim**-0.5
        self.register_buffer("codebook", start)
        self.register_buffer("cluster_size", torch.ones(codebook_size))
        self.register_buffer("cluster_sum", start.clone())
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest codes' vectors (B, D, F), without gradient, and the codes (B, F) int64."""
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            frames = latents.detach().float().transpose(1, 2)
            moving = self.training and _all_finite(frames)
            if moving and self.updates == 0:
                self._start(frames)
            codes = self._nearest(frames)
            quantized = self._look_up(codes).to(latents.dtype)
            if moving:
                self._update(frames, codes)
        return quantized, codes

    def encode(self, latents: Tensor) -> Tensor:
        """The nearest codes (B, F) of (B, D, F)."""
        return self._nearest(latents.float().transpose(1, 2))

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, D, F) of codes (B, F)."""
        return self._look_up(codes)

    def _look_up(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook).transpose(1, 2)

    def _nearest(self, frames: Tensor) -> Tensor:
        return nearest(frames.reshape(-1, frames.shape[-1]), self.codebook).view(frames.shape[:-1])

    def _draws(self) -> torch.Generator:
        # On the CPU, and of nothing but the count of updates: the same on every rank and resume.
        return torch.Generator().manual_seed(mix(*self.seed, int(self.updates)))

    def _start(self, frames: Tensor) -> None:
        """k-means of the joint batch. Sums are centroid times count, or the start is lost."""
        samples = joint_rows(frames).reshape(-1, frames.shape[-1])
        centroids, counts = kmeans(
            samples, len(self.codebook), self.kmeans_iterations, self._draws()
        )
        # An accelerator adds in no fixed order, so the same samples may give ranks other bits.
        self.codebook.copy_(of_first_rank(centroids))
        self.cluster_size.copy_(of_first_rank(counts))
        self.cluster_sum.copy_(self.codebook * self.cluster_size[:, None])

    def _update(self, frames: Tensor, codes: Tensor) -> None:
        flat, flat_codes = frames.reshape(-1, frames.shape[-1]), codes.reshape(-1)
        size, total = cluster_statistics(flat, flat_codes, len(self.codebook))
        joint = joint_sum(torch.cat([size[:, None], total], dim=1))
        self.updates += 1
        self.cluster_size.lerp_(joint[:, 0], 1 - self.decay)
        self.cluster_sum.lerp_(joint[:, 1:], 1 - self.decay)
        even = self.cluster_size.mean()
        # A code that hardly any frame has stays where it is; 0 / 0 would send it to the origin.
        followed = self.cluster_size > 1e-5 * even
        self.codebook[followed] = self.cluster_sum[followed] / self.cluster_size[followed, None]
        expired = self.cluster_size < self.expire_below * even
        if expired.any():
            self._replace(expired, frames, even)

    def _replace(self, expired: Tensor, frames: Tensor, even: Tensor) -> None:
        """Put frames of the joint batch in place of dead codes, with an even share of its uses.

        In the average too: a codebook alone would be overwritten by the next update.
        """
        samples = joint_rows(frames).reshape(-1, frames.shape[-1])
        number = int(expired.sum())
        order = torch.randperm(len(samples), generator=self._draws())
        chosen = order[torch.arange(number) % len(order)].to(samples.device)
        self.codebook[expired] = samples[chosen]
        self.cluster_size[expired] = even
        self.cluster_sum[expired] = samples[chosen] * even


def _all_finite(frames: Tensor) -> bool:
    """Whether no rank has a NaN or an infinity; one would stay in the averages for good."""
    return bool(joint_sum((~frames.isfinite().all()).float()) == 0)


def nearest(frames: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of ``codebook`` (K, D) for each of ``frames`` (N, D), (N,)."""
    # Autocast would round the product, and take one code for another.
    with torch.autocast(frames.device.type, enabled=False):
        # |x|^2 is the same for all codes.
        distance = torch.addmm(codebook.square().sum(dim=1), frames, codebook.T, alpha=-2)
    return distance.argmin(dim=1)


def cluster_statistics(frames: Tensor, codes: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Number (K,) and sum (K, D) of the ``frames`` (N, D) of each of ``codes`` (N,)."""
    size = frames.new_zeros(codebook_size)
    size.index_add_(0, codes, torch.ones_like(frames[:, 0]))
    total = frames.new_zeros(codebook_size, frames.shape[1]).index_add_(0, codes, frames)
    return size, total


def kmeans(
    samples: Tensor, clusters: int, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from random samples.

    Args:
        samples: (N, D).
        clusters: Number of centroids K; may exceed N.
        iterations: Lloyd steps.
        generator: On the CPU.

    Returns:
        Centroids (K, D), the means of their clusters, and how many samples each has, (K,). An
        empty cluster keeps the centroid that it had.
    """
    order = torch.randperm(len(samples), generator=generator)
    centroids = samples[order[torch.arange(clusters) % len(order)].to(samples.device)]
    size = samples.new_zeros(clusters)
    for _ in range(iterations):
        size, total = cluster_statistics(samples, nearest(samples, centroids), clusters)
        filled = size > 0
        centroids = centroids.clone()
        centroids[filled] = total[filled] / size[filled, None]
    return centroids, size
