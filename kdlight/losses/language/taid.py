"""TAID: a target that walks from the student to the teacher (Shing et al., arXiv:2501.16937)."""

import torch
from torch import Tensor

from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.language.objective import Divergence, alike, within

TINY = 1e-15


def interpolated(student: Tensor, teacher: Tensor, share: Tensor | float) -> Tensor:
    """Log of the softmax of ``(1 - share) student + share teacher``, the student held (eq. 3)."""
    between = (1 - share) * student.detach() + share * teacher
    return between.log_softmax(dim=-1)


class TAID(Divergence):
    """KL(p_t || q) with p_t between student and teacher in logits; t grows over the run (alg. 1).

        t <- min(end, max(start + (end - start) done, t + step sigmoid(m) (1 - t))),
        m <- momentum m + (1 - momentum) (J_before - J) / J_before

    J is the loss, over all ranks, of the batches of an update. The paper's program takes the
    cross-entropy for J, which has the same gradient but never falls to 0, and each rank's own, so
    that the ranks' t drift apart. At a constant loss the adaptive part is ahead of the straight
    line only in runs of more than ``2 / step`` updates.

    Args:
        start: First t, in [0, 1].
        end: Last t, in [0, 1].
        step: Largest step of t; 0 leaves the straight line.
        momentum: Of the mean relative change of the loss.
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: A number is out of range.
    """

    share: Tensor
    mean_change: Tensor
    before: Tensor
    window: Tensor

    def __init__(
        self,
        start: float = 0.4,
        end: float = 1.0,
        step: float = 5e-4,
        momentum: float = 0.99,
        temperature: float = 1.0,
        temperature_squared: bool = False,
    ) -> None:
        super().__init__(temperature, temperature_squared)
        self.start, self.end = within("start", start), within("end", end)
        self.step, self.momentum = within("step", step), within("momentum", momentum)
        self.register_buffer("share", _double(start))
        self.register_buffer("mean_change", _double(0.0))
        # Below 0: none yet.
        self.register_buffer("before", _double(-1.0))
        self.register_buffer("window", _double(0.0, 0.0))

    def from_logits(self, student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
        teacher, student = (each / self.temperature for each in alike(teacher, student))
        target = interpolated(student, teacher, float(self.share))
        return forward_kl(target, student.log_softmax(dim=-1))

    def observe(self, total: Tensor, weight: Tensor) -> None:
        self.window += torch.stack([total.double(), weight.double()])

    def advance(self, done: float) -> None:
        now = self.window[0] / self.window[1]
        self.window.zero_()
        if not now.isfinite():  # of an update that was skipped
            return
        if self.before >= 0:
            change = (self.before - now) / (self.before + TINY)
            self.mean_change.mul_(self.momentum).add_((1 - self.momentum) * change)
            ahead = self.share + self.step * self.mean_change.sigmoid() * (1 - self.share)
            line = self.start + (self.end - self.start) * done
            self.share.copy_(ahead.clamp(min=line, max=self.end))
        self.before.copy_(now)

    def state(self) -> dict[str, Tensor]:
        return {"taid_share": self.share}


def _double(*values: float) -> Tensor:
    """A state of one number, (), or of several, (N,)."""
    state = torch.tensor(values, dtype=torch.float64)
    return state.squeeze() if len(values) == 1 else state
