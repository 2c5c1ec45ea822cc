"""Statistics of codes: how much of the codebooks is used, and what the codes cost in bits."""

import torch
from torch import Tensor
from torchmetrics import Metric

from kdlight.errors import InputError

# What has a figure for each level. Of one level torchmetrics makes () out of (1,).
LEVEL_FIGURES = ("usage", "expired", "entropy", "perplexity", "entropy_bitrate", "match")


def check_codes(codes: Tensor, n_q: int, codebook_size: int) -> Tensor:
    """Codes as (B, n_q, F), int64.

    Args:
        codes: (n_q, F) or (B, n_q, F), without padding.
        n_q: Levels that are expected.
        codebook_size: Codes run from 0 to one below it.

    Raises:
        InputError: The shape or a code is another.
    """
    batch = codes[None] if codes.ndim == 2 else codes
    if batch.ndim != 3 or batch.shape[1] != n_q or batch.is_floating_point():
        raise InputError(
            f"codes: expected whole numbers (B, {n_q}, F), "
            f"found {codes.dtype} {tuple(codes.shape)}."
        )
    if batch.numel() and not (batch.min() >= 0 and batch.max() < codebook_size):
        raise InputError(
            f"codes: expected 0 to {codebook_size - 1}, "
            f"found {batch.min().item()} to {batch.max().item()}."
        )
    return batch.long()


class TokenStatistics(Metric):
    """Usage, perplexity, expired codes and bit rates of each level, summed over ranks.

    All are plug-in figures of the counted codes. With few frames for each code they are biased:
    entropy, perplexity and usage come out too low. ``compute()`` returns, of (n_q,) each,

    - ``usage``: share of a level's codes that were chosen at all, 0 to 1;
    - ``expired``: share of codes that were chosen less than ``expired_below`` times, 0 to 1;
    - ``entropy``: bits of a code, 0 to log2(codebook_size);
    - ``perplexity``: 2 to the entropy, 1 to codebook_size;
    - ``entropy_bitrate``: entropy times frame rate, bits per second;

    and, as scalars (), ``bitrate`` (all levels, codes of fixed length), ``entropy_bitrate_total``
    (all levels, each coded alone) and ``frames``. Without a frame all but ``bitrate`` and
    ``frames`` are NaN.

    Args:
        n_q: Number of levels.
        codebook_size: Codes of a level.
        frame_rate: Frames per second, in Hz.
        expired_below: Choices under which a code counts as expired; 2 is what EnCodec's training
            replaces a code at, there of a moving average over batches.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(
        self, n_q: int, codebook_size: int, frame_rate: float, expired_below: int = 2
    ) -> None:
        super().__init__()
        self.n_q, self.codebook_size = n_q, codebook_size
        self.frame_rate, self.expired_below = frame_rate, expired_below
        zeros = torch.zeros(n_q, codebook_size, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add codes, (n_q, F) or (B, n_q, F), without padding.

        Raises:
            InputError: The shape or a code is another.
        """
        batch = check_codes(codes, self.n_q, self.codebook_size).to(self.counts.device)
        for level in range(self.n_q):
            self.counts[level] += torch.bincount(
                batch[:, level].flatten(), minlength=self.codebook_size
            )

    def compute(self) -> dict[str, Tensor]:
        """The figures, float64; see the class."""
        counts = self.counts.double()
        frames = counts.sum(dim=1, keepdim=True)
        shares = counts / frames  # 0 / 0 is NaN, as it should be
        entropy = torch.special.entr(shares).sum(dim=1) / torch.log(torch.tensor(2.0).double())
        unknown = torch.where(frames[:, 0] > 0, 0.0, torch.nan)
        bits = torch.log2(torch.tensor(float(self.codebook_size), dtype=torch.float64))
        return {
            "usage": (counts > 0).double().mean(dim=1) + unknown,
            "expired": (counts < self.expired_below).double().mean(dim=1) + unknown,
            "entropy": entropy,
            "perplexity": torch.exp2(entropy),
            "entropy_bitrate": entropy * self.frame_rate,
            "bitrate": self.n_q * bits * self.frame_rate,
            "entropy_bitrate_total": entropy.sum() * self.frame_rate,
            "frames": frames[0, 0],
        }


class CodeMatch(Metric):
    """How often codes survive a round trip: encode(decode(codes)) == codes, summed over ranks.

    ``compute()`` returns ``match`` (n_q,), the share of equal codes of each level, and
    ``match_frame`` (), the share of frames whose levels are all equal; NaN without a frame.

    Args:
        n_q: Number of levels.
        codebook_size: Codes of a level.
    """

    is_differentiable = False
    full_state_update = False
    equal: Tensor
    equal_frames: Tensor
    frames: Tensor

    def __init__(self, n_q: int, codebook_size: int) -> None:
        super().__init__()
        self.n_q, self.codebook_size = n_q, codebook_size
        self.add_state("equal", torch.zeros(n_q, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("equal_frames", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("frames", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, codes: Tensor, again: Tensor) -> None:
        """Add codes and those of their decoded audio, (n_q, F) or (B, n_q, F) both.

        Raises:
            InputError: The shapes differ, or a code is out of range.
        """
        first, second = (check_codes(side, self.n_q, self.codebook_size) for side in (codes, again))
        if first.shape != second.shape:
            raise InputError(
                f"codes: expected {tuple(first.shape)} again, found {tuple(second.shape)}."
            )
        same = first == second
        self.equal += same.sum(dim=(0, 2))
        self.equal_frames += same.all(dim=1).sum()
        self.frames += same.shape[0] * same.shape[2]

    def compute(self) -> dict[str, Tensor]:
        """The shares, float64; see the class."""
        return {
            "match": self.equal.double() / self.frames.double(),
            "match_frame": self.equal_frames.double() / self.frames.double(),
        }
