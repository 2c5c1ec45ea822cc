"""Several domains in shares that may change while a run lasts."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from datamodules.loader import Batch, EndlessLoader, EvaluationLoader, take
from datamodules.order import permutation, positive, seeded
from datamodules.text.base import TokenDataModule
from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.errors import InputError


class MixtureLoader(EndlessLoader):
    """Endless batches, every row of a domain drawn by the shares, domain by domain in order.

    The rows of global batch n are a function of the seed, of n, and of the shares that there were;
    a domain that is through begins again in another order. Before every ``every``-th batch
    :attr:`follow` may say new shares. All of that is in the state, so that a resumed run draws the
    same, and ranks take every ``world_size``-th row of the same global batches.

    Args:
        domains: Rows of each domain.
        shares: Of the domains, (N,) float64.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches of one iteration.
        seed: Seed of the order.
        rank: Which rank this is.
        world_size: Number of ranks.

    Attributes:
        every: Batches between two measurements; 0 for none.
        follow: Gives new shares for the old ones; None as the first.
    """

    def __init__(
        self,
        domains: list[Batch],
        shares: Tensor,
        batch_size: int,
        steps_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(steps_per_epoch)
        self.domains, self.shares = domains, shares
        self.sizes = [len(domain["tokens"]) for domain in domains]
        self.global_batch = batch_size * world_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.drawn = [0] * len(domains)
        self.every = 0
        self.follow: Callable[[Tensor | None], Tensor] | None = None

    def next_batch(self) -> Batch:
        if self.follow is not None and self.every and self.batches % self.every == 0:
            self.shares = self.follow(self.shares if self.batches else None)
        generator = seeded(self.seed, self.batches, 4)
        domains = torch.multinomial(
            self.shares, self.global_batch, replacement=True, generator=generator
        )
        rows = []
        for place, domain in enumerate(domains.tolist()):
            epoch, at = divmod(self.drawn[domain], self.sizes[domain])
            self.drawn[domain] += 1
            if place % self.world_size == self.rank:
                order = permutation(self.sizes[domain], self.seed * len(self.sizes) + domain, epoch)
                row = take(self.domains[domain], order[at : at + 1])
                rows.append(row | {"domain": torch.tensor([domain])})
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def identity(self) -> dict[str, int]:
        return {"seed": self.seed, "size": sum(self.sizes), "global_batch": self.global_batch}

    def state_dict(self) -> dict[str, Any]:
        """Batches so far, rows of each domain so far, and the shares."""
        return super().state_dict() | {"drawn": list(self.drawn), "shares": self.shares.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn = list(state["drawn"])
        self.shares = torch.tensor(state["shares"], dtype=torch.float64)


class MixedDataModule(TokenDataModule):
    """Sequences of several domains: a domain first, then its next row.

    Batches say the ``domain`` of every row, (B,) int64. Held out are the rows that every domain
    holds out, domain after domain.

    Args:
        domains: The domains by name, of one vocabulary and length; of each only the sequences are
            taken, not its batch size, order or epochs.
        shares: Of the domains, in their order; None for equal ones. A callback may change them
            (:class:`~kdlight.callbacks.language.mixture.FollowStudent`).
        measured: Rows of each domain that are kept from training, to be measured on the way.
        batch_size: Batch size of one rank.
        steps_per_epoch: Batches between two validations.
        seed: Seed of the order.

    Raises:
        InputError: Domains of unlike tokens, shares that are none, or a domain of too few rows.
    """

    def __init__(
        self,
        domains: dict[str, TokenDataModule],
        shares: list[float] | None = None,
        measured: int = 200,
        batch_size: int = 64,
        steps_per_epoch: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, steps_per_epoch, seed)
        if not domains:
            raise InputError("domains: expected at least one, found none.")
        sizes = {name: (each.vocabulary, each.length) for name, each in domains.items()}
        self.vocabulary, self.length = next(iter(sizes.values()))
        for name, found in sizes.items():
            if found != (self.vocabulary, self.length):
                raise InputError(
                    f"domains: {name}: expected {self.vocabulary} tokens and length {self.length} "
                    f"as of the others, found {found[0]} and {found[1]}."
                )
        given = [1.0] * len(domains) if shares is None else shares
        if len(given) != len(domains) or min(given) < 0 or not sum(given) > 0:
            raise InputError(
                f"shares: expected {len(domains)} numbers of at least 0, found {given}."
            )
        self.domains, self.tokenizer = domains, next(iter(domains.values())).tokenizer
        self.names = list(domains)
        self.shares = torch.tensor(given, dtype=torch.float64) / sum(given)
        self.measured = positive("measured", measured)

    def read(self) -> tuple[Batch, Batch]:
        """All rows to train on, and all that are held out, with their domains."""
        training, heldout = (
            {
                name: torch.cat([part[name] for part in parts])
                for name in ("tokens", "mask", "lengths", "domain")
            }
            for parts in (self._training(), self._numbered(1))
        )
        # Domain after domain at every place: whoever reads the first rows reads of all.
        places = torch.cat([torch.arange(len(part["tokens"])) for part in self._numbered(1)])
        order = places.argsort(stable=True)
        return training, {name: rows[order] for name, rows in heldout.items()}

    def measured_rows(self) -> list[Batch]:
        """Of each domain, rows that are neither trained on nor held out."""
        return [_cut(part, slice(-self.measured, None)) for part in self._numbered(0)]

    def laws(self) -> dict[str, NextTokenModel | None]:
        """The exact law of every domain where it is known."""
        return {name: domain.law() for name, domain in self.domains.items()}

    def _training(self) -> list[Batch]:
        return [_cut(part, slice(None, -self.measured)) for part in self._numbered(0)]

    def _numbered(self, part: int) -> list[Batch]:
        found = []
        for number, (name, domain) in enumerate(self.domains.items()):
            rows = domain.parts[part]
            count = len(rows["tokens"])
            if not part and count <= self.measured:
                raise InputError(
                    f"domains: {name}: expected more than the {self.measured} rows that are "
                    f"measured, found {count}."
                )
            found.append(dict(rows) | {"domain": torch.full((count,), number)})
        return found

    def make_train_loader(self) -> MixtureLoader:
        """Rows by the shares, from the beginning."""
        return MixtureLoader(
            self._training(),
            self.shares,
            self.batch_size,
            self.steps_per_epoch,
            self.seed,
            *self.ranks,
        )

    def heldout_dataloader(self) -> Iterable[Batch]:
        """The held-out rows, of every domain in turn."""
        return EvaluationLoader(self.parts[1], self.batch_size, *self.ranks)


def _cut(rows: Batch, part: slice) -> Batch:
    return {name: tensor[part] for name, tensor in rows.items()}
