"""What the data modules of every domain share: loaders, ranks, and the position in the data."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningDataModule

from datamodules.loader import EndlessLoader
from kdlight.core.ranged import Ranged


class EndlessDataModule(Ranged, LightningDataModule):
    """Base of all data modules: endless training batches whose position is saved and restored.

    A subclass makes the loaders.
    """

    def __init__(self) -> None:
        super().__init__()
        self._train_loader: EndlessLoader | None = None
        self._resume_from: dict[str, Any] | None = None

    def make_train_loader(self) -> EndlessLoader:
        """A training loader that starts at the beginning."""
        raise NotImplementedError

    def heldout_dataloader(self) -> Iterable[Any]:
        """The held-out part in order, once."""
        raise NotImplementedError

    @property
    def ranks(self) -> tuple[int, int]:
        """This process's rank and the number of ranks; (0, 1) without a trainer."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> EndlessLoader:
        """Endless training batches."""
        self._train_loader = self.make_train_loader()
        if self._resume_from is not None:
            self._train_loader.load_state_dict(self._resume_from)
            self._resume_from = None
        return self._train_loader

    def val_dataloader(self) -> Iterable[Any]:
        """The held-out part."""
        return self.heldout_dataloader()

    def test_dataloader(self) -> Iterable[Any]:
        """The held-out part."""
        return self.heldout_dataloader()

    def predict_dataloader(self) -> Iterable[Any]:
        """The held-out part."""
        return self.heldout_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Position of the training loader.

        Lightning restores the states of loaders only when a run was stopped inside an epoch; one
        that continues behind a whole epoch would start the data over. The state of a data module
        it always restores.
        """
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next training loader start where the checkpoint was written."""
        self._resume_from = state
