"""The learnt weight of a loss as a function of time."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import PositiveInt
from kdlight.core.spec import Recorded
from kdlight.networks.mlp import FourierFeatures


class AdaptiveWeight(Recorded, nn.Module):
    """``w(t)``, the logarithm of the weight with which the error at time t enters a loss.

    Trained on ``e^w error - w``, whose minimum ``w = -log E[error | t]`` makes the weighted error
    one at every time (Karras et al. 2023, arXiv:2312.02696, section 2.2; Lu & Song 2024,
    arXiv:2410.11081, section 4.2). A linear map of Fourier features of ``log(tan t) / 4``, the
    variable in which the times of training are spread evenly; 0 before training.

    Args:
        features: Number of features; more follow a more rugged error.
    """

    def __init__(self, features: PositiveInt = 64) -> None:
        super().__init__()
        self.features = FourierFeatures(features, max_frequency=8.0)
        self.output = nn.Linear(features, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, t: Tensor) -> Tensor:
        """Log-weights (B,) at times ``t`` (B,) in (0, pi/2)."""
        with torch.autocast(t.device.type, enabled=False):
            number = (t.tan().log() / 4).to(self.output.weight.dtype)
            return self.output(self.features(number)).squeeze(1)  # type: ignore[no-any-return]
