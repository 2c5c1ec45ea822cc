import pytest
import torch

from kdlight.core.noise import mix
from kdlight.diffusion.generator import noise_for
from tests.exactness.diffusion_cases import tiny_teacher

CPU = torch.device("cpu")


def joined(count, batch, **settings):
    parts = list(noise_for(tiny_teacher(), count, batch, 3, CPU, **settings))
    noise, labels = zip(*((noise, condition["label"]) for noise, condition in parts), strict=True)
    return torch.cat(noise), torch.cat(labels)


@pytest.mark.parametrize("batch", [1, 7, 16, 50])
def test_a_sample_is_the_same_in_any_batching_and_number(batch):
    noise, labels = joined(50, batch)
    source = torch.Generator().manual_seed(mix(3, 0))
    assert torch.equal(noise, torch.randn(64, *noise.shape[1:], generator=source)[:50])
    assert torch.equal(joined(23, batch)[0], noise[:23])
    assert labels.tolist() == [number % 2 for number in range(50)]


def test_random_labels_are_the_seeds_alone():
    noise, labels = joined(400, 64, random_labels=True)
    assert torch.equal(noise, joined(400, 64)[0])
    assert torch.equal(labels, joined(400, 9, random_labels=True)[1])
    assert 150 < int(labels.sum()) < 250
