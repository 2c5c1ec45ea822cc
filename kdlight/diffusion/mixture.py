"""The oracle: the exact denoiser of a mixture of Gaussians, to test and to show methods with."""

import torch
from torch import Tensor

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat
from kdlight.diffusion.denoisers import Condition, Denoiser, expand
from kdlight.errors import InputError


class MixtureDenoiser(Denoiser):
    """Exact posterior mean of a mixture of isotropic Gaussians: the oracle of tests and demos.

    With ``x = x0 + sigma * eps`` the responsibility of component k is proportional to
    ``w_k N(x; m_k, (v_k + sigma^2) I)`` and its posterior mean is
    ``m_k + v_k / (v_k + sigma^2) (x - m_k)``. Computed in float64.

    Args:
        means: Component means, (K, d).
        variances: Component variances, (K,); one number is used for every component.
        weights: Component probabilities, (K,); equal if not given.
        labelled: Whether ``condition["label"]`` selects a component; the label K means "any".
        sigma_min: Smallest noise level to sample with.
        sigma_max: Largest noise level to sample with.
    """

    means: Tensor
    variances: Tensor
    weights: Tensor

    def __init__(
        self,
        means: list[list[float]],
        variances: list[NonNegativeFloat] | NonNegativeFloat = 0.01,
        weights: list[NonNegativeFloat] | None = None,
        labelled: bool = False,
        sigma_min: NonNegativeFloat = 0.002,
        sigma_max: PositiveFloat = 80.0,
    ) -> None:
        super().__init__(sigma_min, sigma_max)
        count = len(means)
        spread = [float(variances)] * count if isinstance(variances, (int, float)) else variances
        shares = [1.0] * count if weights is None else weights
        if len(spread) != count or len(shares) != count:
            raise InputError(
                f"means: {count} components, but {len(spread)} variances and {len(shares)} weights."
            )
        if not sum(shares) > 0:
            raise InputError(f"weights: expected a sum above 0, found {shares}.")
        self.labelled = labelled
        share = torch.tensor(shares, dtype=torch.float64)
        self.register_buffer("means", torch.tensor(means, dtype=torch.float64), persistent=False)
        self.register_buffer(
            "variances", torch.tensor(spread, dtype=torch.float64), persistent=False
        )
        self.register_buffer("weights", share / share.sum(), persistent=False)

    @property
    def num_classes(self) -> int:
        return len(self.means) if self.labelled else 0

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Exact samples (count, d), float32, and the component (count,) each came from."""
        label = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        points = self.means[label] + self.variances[label].sqrt()[:, None] * noise
        return points.float(), label

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        means, variances = self.means.double(), self.variances.double()
        point = x.flatten(1).double()
        noise = expand(sigma, point) ** 2
        offset = point[:, None] - means
        total = variances + noise
        shrunk = means + (variances / total)[..., None] * offset
        dimension = point.shape[1]
        log_weight = (
            self.weights.double().log()
            - offset.square().sum(-1) / (2 * total)
            - dimension / 2 * total.log()
        )
        if self.labelled and condition and "label" in condition:
            label = condition["label"][:, None]
            component = torch.arange(len(means), device=label.device)
            asked = torch.where(label == component, 0.0, -torch.inf).to(log_weight)
            log_weight = torch.where(label < len(means), asked, log_weight)
        responsibility = log_weight.softmax(dim=1)
        mean = (responsibility[..., None] * shrunk).sum(1)
        return mean.reshape(x.shape).to(x.dtype)
