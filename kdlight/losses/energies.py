"""Learning an energy by telling data from samples."""

from torch import Tensor, nn


def noise_contrastive(data: Tensor, samples: Tensor) -> Tensor:
    """Binary noise-contrastive estimation, (B,) (Xu et al., arXiv:2410.21357, equation 10).

    softplus(E(data)) + softplus(-E(samples)). Where the samples come from mu and the data from p,
    the optimum is E = log mu - log p with its normalisation, and the loss 2 log 2 - 2 JSD(mu, p).

    Args:
        data: Energies of true sequences, (B,).
        samples: Energies of samples of the proposal for the same masks, (B,).
    """
    return nn.functional.softplus(data) + nn.functional.softplus(-samples)
