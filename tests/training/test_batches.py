"""Data of another kind than a method reads: a sentence, not a KeyError."""

import pytest

from kdlight.errors import InputError
from kdlight.training.batches import NamedBatch


def test_what_is_lacking_is_named() -> None:
    batch = NamedBatch({"noise": 1, "label": 2}, "DMD2")
    assert (batch["label"], batch.get("image")) == (2, None)
    with pytest.raises(
        InputError,
        match="expected batches with 'image', which DMD2 reads, found 'noise', 'label'",
    ):
        batch["image"]
