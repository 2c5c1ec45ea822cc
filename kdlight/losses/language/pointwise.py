"""The divergences as parts: each compares the laws of the next token, one token at a time."""

from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat
from kdlight.errors import InputError
from kdlight.losses.language import divergences, transport, truncated
from kdlight.losses.language.objective import Divergence, above_zero, within
from kdlight.losses.language.truncated import Tail


class ForwardKL(Divergence):
    """KL(p || q): :func:`~kdlight.losses.language.divergences.forward_kl`."""

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.forward_kl(log_p, log_q)


class ReverseKL(Divergence):
    """KL(q || p): :func:`~kdlight.losses.language.divergences.reverse_kl`."""

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.reverse_kl(log_p, log_q)


class JensenShannon(Divergence):
    """GKD's: :func:`~kdlight.losses.language.divergences.jensen_shannon`.

    Args:
        beta: The teacher's share, in (0, 1); at the ends take ForwardKL or ReverseKL.
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self, beta: float = 0.5, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature, temperature_squared)
        if not 0 < beta < 1:
            raise InputError(
                f"beta: expected a number between 0 and 1, found {beta}; "
                "the ends are ForwardKL and ReverseKL."
            )
        self.beta = beta

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.jensen_shannon(log_p, log_q, self.beta)


class TotalVariation(Divergence):
    """:func:`~kdlight.losses.language.divergences.total_variation`.

    Args:
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.
    """

    def __init__(self, temperature: float = 1.0, temperature_squared: bool = False) -> None:
        super().__init__(temperature, temperature_squared)

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.total_variation(log_p, log_q)


class LogAcceptance(TotalVariation):
    """:func:`~kdlight.losses.language.divergences.log_acceptance`."""

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.log_acceptance(log_p, log_q)


class SkewedForwardKL(Divergence):
    """DistiLLM's: :func:`~kdlight.losses.language.divergences.skewed_forward_kl`.

    Args:
        skew: Share of the teacher in the student's place, in [0, 1].
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.
    """

    def __init__(
        self, skew: float = 0.1, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature, temperature_squared)
        self.skew = within("skew", skew)

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.skewed_forward_kl(log_p, log_q, self.skew)


class SkewedReverseKL(SkewedForwardKL):
    """DistiLLM's: :func:`~kdlight.losses.language.divergences.skewed_reverse_kl`."""

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.skewed_reverse_kl(log_p, log_q, self.skew)


class AdaptiveKL(Divergence):
    """:func:`~kdlight.losses.language.divergences.adaptive_kl`.

    Args:
        head: Mass of the teacher's head, in [0, 1].
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.
    """

    def __init__(
        self, head: float = 0.5, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature, temperature_squared)
        self.head = within("head", head)

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.adaptive_kl(log_p, log_q, self.head)


class AlphaBeta(Divergence):
    """ABKD's: :func:`~kdlight.losses.language.divergences.alpha_beta`.

    Args:
        alpha: At least 0.
        beta: At least 0; not both may be 0.
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: A number is below 0, or both are 0.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        beta: float = 0.7,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature, temperature_squared)
        if min(alpha, beta) < 0 or alpha + beta == 0:
            raise InputError(
                "alpha, beta: expected numbers of at least 0 that are not both 0, found "
                f"{alpha} and {beta}."
            )
        self.alpha, self.beta = alpha, beta

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.alpha_beta(log_p, log_q, self.alpha, self.beta)


class TopK(Divergence):
    """FIRST's: :func:`~kdlight.losses.language.truncated.top_k`, of a recalibrated teacher.

    Args:
        k: Tokens that are kept.
        tail: What becomes of the rest.
        teacher_temperature: Temperature of the teacher alone, which makes an over-confident one
            honest; chosen on held-out data
            (:func:`~kdlight.metrics.language.calibration.fitted_temperature`).
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: ``k`` is below 1 or a temperature not above 0.
    """

    def __init__(
        self,
        k: int = 5,
        tail: Tail = "bucket",
        teacher_temperature: float = 1.0,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature, temperature_squared)
        if k < 1:
            raise InputError(f"k: expected at least 1, found {k}.")
        self.k, self.tail = k, tail
        self.teacher_temperature = above_zero("teacher_temperature", teacher_temperature)

    def from_logits(self, student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
        return super().from_logits(student, teacher / self.teacher_temperature, tokens)

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return truncated.top_k(log_p, log_q, self.k, self.tail)


class SortedDistance(TotalVariation):
    """ULD's, for unlike vocabularies: :func:`~kdlight.losses.language.transport.sorted_distance`.

    Tokens are paired by their place in the sequence.
    """

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return transport.sorted_distance(log_p, log_q)


class DeviationAware(Divergence):
    """:func:`~kdlight.losses.language.divergences.deviation_aware`.

    Args:
        gamma: Power of the entropies; 0 for the soft cross-entropy.
        temperature: Of both laws.
        temperature_squared: Whether the loss is multiplied by its square.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self,
        gamma: NonNegativeFloat = 0.1,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature, temperature_squared)
        self.gamma = gamma

    def measure(self, log_p: Tensor, log_q: Tensor, tokens: Tensor) -> Tensor:
        return divergences.deviation_aware(log_p, log_q, self.gamma)
