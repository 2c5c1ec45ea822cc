"""Random numbers of a training step that do not depend on how many ranks share it."""

import hashlib

import torch
from torch import Tensor


def mix(*numbers: int) -> int:
    """A 63-bit seed from any integers; near numbers give unrelated seeds."""
    text = ",".join(str(number) for number in numbers).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_global(seed: int, device: torch.device) -> None:
    """Seed the global generators that work on ``device`` may draw from: its own and the CPU's.

    ``torch.manual_seed`` seeds those of every kind of accelerator; for each that is not in use it
    writes the call stack down, which takes longer than all noise of a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class NoiseStream:
    """Draws for the whole joint batch and hands a rank its rows.

    Row i of the joint batch gets the same noise on one process or on many: with batches dealt
    out as rows ``rank::world_size``, two ranks at half the batch train exactly like one rank at
    the whole batch. Generating the other ranks' rows costs a little time and no communication.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator = torch.Generator()
        self._rank, self._world_size = 0, 1
        self._iteration, self._asked = 0, 0

    def start(
        self, iteration: int, device: torch.device, rank: int = 0, world_size: int = 1
    ) -> None:
        """Begin the draws of one training iteration."""
        if self._generator.device != device:
            self._generator = torch.Generator(device)
        self._generator.manual_seed(mix(self.seed, iteration))
        self._iteration, self._asked = iteration, 0
        self._rank, self._world_size = rank, world_size

    def _rows(self, joint: Tensor) -> Tensor:
        return joint if self._world_size == 1 else joint[self._rank :: self._world_size]

    def uniform(self, count: int, *rest: int) -> Tensor:
        """Numbers uniform in [0, 1), (count, *rest), float64."""
        return self._rows(
            torch.rand(
                (count * self._world_size, *rest),
                generator=self._generator,
                device=self._generator.device,
                dtype=torch.float64,
            )
        )

    def stratified(self, count: int) -> Tensor:
        """Numbers in [0, 1), (count,), float64, spread evenly over the joint batch."""
        joint = count * self._world_size
        shift = torch.rand(
            1, generator=self._generator, device=self._generator.device, dtype=torch.float64
        )
        return self._rows((torch.arange(joint, device=shift.device) + shift) / joint)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape and dtype of ``like``, whose first axis is rows."""
        return self._rows(
            torch.randn(
                (len(like) * self._world_size, *like.shape[1:]),
                generator=self._generator,
                device=self._generator.device,
                dtype=like.dtype,
            )
        )

    def integers(self, count: int, high: int) -> Tensor:
        """Integers uniform in [0, high), (count,), int64."""
        return self._rows(
            torch.randint(
                high,
                (count * self._world_size,),
                generator=self._generator,
                device=self._generator.device,
            )
        )

    def common(self, high: int) -> int:
        """One integer uniform in [0, high), the same on every rank."""
        host = self._generator
        if host.device.type != "cpu":
            # The step waits for this number: fetched from the device, it would wait for all before.
            self._asked += 1
            host = torch.Generator().manual_seed(mix(self.seed, self._iteration, self._asked))
        return int(torch.randint(high, (1,), generator=host))


class ReplayedDraws:
    """Lets a second forward pass draw what the first drew: the same dropout masks.

    Remembers, when made, the global generators that dropout on ``device`` draws from.

    Args:
        device: Where the passes run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._generator_state()

    def _generator_state(self) -> Tensor:
        if self._device.type == "cpu":
            return torch.default_generator.get_state()
        state: Tensor = torch.get_device_module(self._device).get_rng_state(self._device)
        return state

    def rewind(self) -> None:
        """Go back to where the generators stood when this object was made."""
        if self._device.type == "cpu":
            torch.default_generator.set_state(self._state)
        else:
            torch.get_device_module(self._device).set_rng_state(self._state, self._device)
