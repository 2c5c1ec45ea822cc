"""DAC-KL: a learned window of the teacher's law (Liu et al., arXiv:2407.10068)."""

import torch
from torch import Tensor, nn

from kdlight.losses.language.objective import Divergence, within


def clipped_kl(log_p: Tensor, log_q: Tensor, gate: Tensor) -> Tensor:
    """KL(p || q) of the gated classes and of one class for all others.

    Args:
        log_p: Teacher, (..., V).
        log_q: Student, (..., V).
        gate: How far each class is kept, (..., V) in [0, 1]. All 1 is KL(p || q).

    Returns:
        (...).
    """
    kept = (gate * log_p.exp() * (log_p - log_q)).sum(dim=-1)
    least = torch.finfo(log_p.dtype).tiny
    rest_p, rest_q = (
        ((1 - gate) * each.exp()).sum(dim=-1).clamp(min=least) for each in (log_p, log_q)
    )
    return kept + rest_p * (rest_p.log() - rest_q.log())


class ClippedKL(Divergence):
    """A perceptron says which window of the teacher's sorted probabilities the student copies.

    It reads the likeliest tokens' log-probabilities under teacher and student and gives an upper
    and a lower bound of log p; tokens between them, and the token of the data, are kept, the others
    are one class. The paper's window has a hard edge, through which nothing learns, and no class
    for the rest, so that one kept token would be a loss of 0; no program was released. Ours: the
    value is of the hard window, the gradient of one whose edges are ``softness`` wide, and at least
    ``floor`` of the teacher's mass is kept. The perceptron is trained with the student.

    Args:
        candidates: Likeliest tokens that the perceptron reads.
        hidden: Its width.
        softness: Width of the edges in nats.
        floor: Least mass that is kept, in [0, 1].
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        candidates: int = 64,
        hidden: int = 64,
        softness: float = 0.1,
        floor: float = 0.9,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature, temperature_squared)
        self.candidates = candidates
        self.softness, self.floor = softness, within("floor", floor)
        last = nn.Linear(hidden, 2)
        # Open at first: a sigmoid of 4 keeps 98 % of the span on either side.
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, 4.0)
        self.bounds = nn.Sequential(nn.Linear(2 * candidates, hidden), nn.SiLU(), last)

    def gate(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        """How far each class is kept, (N, V); exactly 0 or 1, with the gradient of soft edges."""
        likeliest = log_p.topk(min(self.candidates, log_p.shape[1]), dim=1)
        seen = torch.stack([likeliest.values, log_q.detach().gather(1, likeliest.indices)], dim=1)
        missing = self.candidates - seen.shape[2]
        seen = nn.functional.pad(seen, (0, missing), value=-30.0).clamp(min=-30.0)
        share = self.bounds(seen.flatten(1).float()).sigmoid()
        high, low = self._bounds(log_p, share.to(log_p.dtype))
        soft = ((log_p - low) / self.softness).sigmoid() * (
            (high - log_p) / self.softness
        ).sigmoid()
        hard = ((log_p >= low) & (log_p <= high)).to(log_p.dtype)
        always = self._always(log_p, tokens)
        return torch.where(always, torch.ones_like(soft), hard + (soft - soft.detach()))

    def _bounds(self, log_p: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower bound of log p, (N, 1) each: shares of its span below its top."""
        top, bottom = log_p.amax(dim=1, keepdim=True), log_p.amin(dim=1, keepdim=True)
        span = top - bottom
        high = top - span * (1 - share[:, :1]) + self.softness
        low = top - span * share[:, 1:] - self.softness
        return high, low

    def _always(self, log_p: Tensor, tokens: Tensor) -> Tensor:
        """The token of the data, and the fewest tokens that hold the floor's mass, (N, V) bool."""
        ordered, order = log_p.exp().sort(dim=1, descending=True)
        first = ordered.cumsum(dim=1) - ordered < self.floor
        kept = torch.zeros_like(first).scatter(1, order, first)
        return kept.scatter(1, tokens[:, None], torch.ones_like(first[:, :1]))

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return clipped_kl(log_p, log_q, self.gate(log_p, log_q, tokens))
