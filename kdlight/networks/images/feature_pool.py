"""Half-trained networks in stock, and a small set of images they are trained on."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlight.core.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded, rebuilt


class ConvEncoder(Recorded, nn.Module):
    """Three convolutions and a feature layer, with a linear head onto a teacher's features.

    Args:
        channels: Image channels.
        size: Height and width of the image, a multiple of 4.
        outputs: Width of the teacher's features.
        width: Channels of the first convolution; the later ones have twice as many.
        features: Width of its own features.
    """

    def __init__(
        self,
        channels: PositiveInt = 1,
        size: PositiveInt = 8,
        outputs: PositiveInt = 64,
        width: PositiveInt = 16,
        features: PositiveInt = 64,
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.outputs = outputs
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (size // 4) ** 2, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, outputs)

    def features(self, image: Tensor) -> Tensor:
        """Penultimate activations, (B, features)."""
        return self.trunk(image)  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        """Predicted features of the teacher, (B, outputs), of images (B, C, H, W)."""
        return self.head(self.features(image))  # type: ignore[no-any-return]


class FeaturePool(nn.Module):
    """Networks of unlike age, each replaced by a fresh one when it is old.

    Their stochastic gradient descent is done here, not by an optimizer of the trainer's, and all of
    it is state: weights, momenta and ages.

    Args:
        network: What they are made like.
        size: How many there are.
        lr: Their learning rate.
        momentum: Decay of their momentum.
        weight_decay: Of their weights, in the gradient.
        life: Steps after which one is replaced.
        restart_age: Whether a fresh one's age is 0. The released program leaves it at ``life``, so
            that each slot holds an untrained network from its first replacement on.
    """

    ages: Tensor

    def __init__(
        self,
        network: ConvEncoder,
        size: PositiveInt = 10,
        lr: PositiveFloat = 0.1,
        momentum: NonNegativeFloat = 0.9,
        weight_decay: NonNegativeFloat = 1e-3,
        life: PositiveInt = 1000,
        restart_age: bool = True,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(rebuilt(network) for _ in range(size)).requires_grad_(False)
        self.momenta = copy.deepcopy(self.members)
        for value in self.momenta.parameters():
            value.zero_()
        self.register_buffer("ages", torch.zeros(size, dtype=torch.int64))
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.life, self.restart_age = life, restart_age

    def __len__(self) -> int:
        return len(self.members)

    def member(self, slot: int) -> ConvEncoder:
        """The network of a slot."""
        network = self.members[slot]
        assert isinstance(network, ConvEncoder)
        return network

    def advance(self, slot: int, image: Tensor, target: Tensor, seed: int) -> None:
        """One step of mean squared error on a small set; a fresh network in place of an old one.

        Args:
            slot: Which one.
            image: (n, C, H, W).
            target: (n, outputs).
            seed: Of the fresh network.
        """
        network = self.member(slot)
        weights = list(network.parameters())
        with torch.enable_grad():
            network.requires_grad_(True)
            loss = F.mse_loss(network(image.detach()), target.detach())
            gradients = torch.autograd.grad(loss, weights)
            network.requires_grad_(False)
        with torch.no_grad():
            momenta = self.momenta[slot].parameters()
            for weight, momentum, gradient in zip(weights, momenta, gradients, strict=True):
                momentum.mul_(self.momentum).add_(gradient + self.weight_decay * weight)
                weight.sub_(self.lr * momentum)
        self.ages[slot] += 1
        if self.ages[slot] >= self.life:
            self._replace(slot, seed)

    @torch.no_grad()
    def _replace(self, slot: int, seed: int) -> None:
        network = self.member(slot)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = rebuilt(network)
        network.load_state_dict(fresh.state_dict())
        for value in self.momenta[slot].parameters():
            value.zero_()
        if self.restart_age:
            self.ages[slot] = 0


class DistilledSet(Recorded, nn.Module):
    """Images and their targets as parameters.

    Args:
        count: How many.
        shape: Shape of one image, (C, H, W).
        width: Numbers of a target.
    """

    def __init__(
        self, count: PositiveInt, shape: Sequence[PositiveInt], width: PositiveInt
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.count, self.width = count, width
        self.image = nn.Parameter(torch.zeros(count, *self.shape))
        self.target = nn.Parameter(torch.zeros(count, width))

    @torch.no_grad()
    def start(self, image: Tensor, target: Tensor) -> None:
        """Begin from real images (count, C, H, W) and their targets (count, width)."""
        self.image.copy_(image)
        self.target.copy_(target)
