"""SinKD as a part: rows of a sequence matched by transport, beside a KL."""

from torch import Tensor

from kdlight.errors import InputError
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.language.objective import (
    Objective,
    above_zero,
    alike,
    chunked,
    scattered,
)
from kdlight.losses.language.transport import sinkhorn


class Sinkhorn(Objective):
    """``KL(p || q) + weight * transport`` (SinKD, arXiv:2402.17110).

    The transport (:func:`~kdlight.losses.language.transport.sinkhorn`) is among the counted tokens
    of a sequence. It is blind to the order of the rows, so it never stands alone.

    Args:
        weight: Of the transport; its program has 0.8 * 0.001 with the KL's 0.9.
        temperature: Of both laws in the transport.
        regularisation: Of the transport.
        sweeps: Normalisations of rows and of columns.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        weight: float = 0.8,
        temperature: float = 2.0,
        regularisation: float = 0.1,
        sweeps: int = 20,
    ) -> None:
        super().__init__()
        if sweeps < 1:
            raise InputError(f"sweeps: expected at least 1, found {sweeps}.")
        self.weight = weight
        self.temperature = above_zero("temperature", temperature)
        self.regularisation = above_zero("regularisation", regularisation)
        self.sweeps = sweeps

    def forward(self, student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        found = chunked(_kl, student[mask], teacher[mask].detach())
        log_p, log_q = (
            (each / self.temperature).log_softmax(dim=-1)
            for each in alike(teacher.detach(), student)
        )
        moved = sinkhorn(log_p, log_q, mask, self.regularisation, self.sweeps)
        return scattered(found, mask) + self.weight * moved


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    log_p, log_q = (each.log_softmax(dim=-1) for each in alike(teacher, student))
    return forward_kl(log_p, log_q)
