"""Several denoisers that share the classes out among themselves, and act as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeInt
from kdlight.diffusion.denoisers import Condition, Denoiser
from kdlight.errors import InputError


class RoutedDenoiser(Denoiser):
    """Each sample goes to the expert of its class (Song et al. 2024, arXiv:2410.23274).

    Args:
        experts: One denoiser for each part of ``partition``; all know all classes.
        partition: The classes of each expert: every class once.

    Raises:
        InputError: That is not so.
    """

    route: Tensor

    def __init__(
        self, experts: Sequence[Denoiser], partition: Sequence[Sequence[NonNegativeInt]]
    ) -> None:
        first = experts[0]
        super().__init__(
            max(expert.sigma_min for expert in experts), min(expert.sigma_max for expert in experts)
        )
        classes = [label for part in partition for label in part]
        if len(experts) != len(partition) or sorted(classes) != list(range(first.num_classes)):
            raise InputError(
                f"partition: expected every class from 0 to {first.num_classes - 1} once, in "
                f"{len(experts)} parts, found {[list(part) for part in partition]}."
            )
        route = torch.empty(len(classes), dtype=torch.int64)
        for index, part in enumerate(partition):
            route[list(part)] = index
        self.register_buffer("route", route, persistent=False)
        self.experts = nn.ModuleList(experts)
        self.sigma_data = getattr(first, "sigma_data", 0.5)

    @property
    def num_classes(self) -> int:
        return len(self.route)

    @property
    def network_calls(self) -> int:
        """Of one sample, which meets one expert."""
        return max(expert.network_calls for expert in self._experts())

    def _experts(self) -> list[Denoiser]:
        return [expert for expert in self.experts if isinstance(expert, Denoiser)]

    def prior(self, noise: Tensor, sigma: Tensor) -> Tensor:
        return self._experts()[0].prior(noise, sigma)

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        if not condition or "label" not in condition:
            raise InputError("label: a student of several experts needs one, found none.")
        sigma = sigma.expand(len(x))
        expert_of = self.route[condition["label"]]
        parts, orders = [], []
        for index, expert in enumerate(self.experts):
            rows = (expert_of == index).nonzero().flatten()
            if len(rows):
                told = {name: value[rows] for name, value in condition.items()}
                parts.append(expert(x[rows], sigma[rows], told))
                orders.append(rows)
        return torch.cat(parts)[torch.cat(orders).argsort()]
