"""Masked autoencoders and their distillation: what is hidden reaches nothing, and identities."""

from pathlib import Path

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.errors import InputError
from kdlight.losses.masked_images import (
    masked_pixel_error,
    normed_smooth_l1,
    patches_of,
    relation_kl,
    unit_l1,
)
from kdlight.metrics.images.probes import head_similarity, linear_probe
from kdlight.networks.images.vit import Block, MaskedAutoencoder, ViT, taken
from kdlight.teachers.encoders import vit_encoder, vit_mae_encoder
from kdlight.training.optim import Optimization
from modules.vision.masked_autoencoding import MaskedAutoencoding, visible_patches
from modules.vision.masked_distillation import MaskedDistillation


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def encoder(**kwargs: int) -> ViT:
    torch.manual_seed(0)
    return ViT(**{"size": 8, "patch_size": 2, "width": 16, "depth": 4, "heads": 2, **kwargs})


KEEP = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(s)) for s in (1, 2)])


def hidden_changed(image: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """The image with other pixels in all patches that are not kept."""
    pixels = patches_of(image, 2)
    hidden = torch.ones(2, 16, 1, dtype=torch.bool).scatter(1, keep[..., None], False)
    other = torch.where(hidden, pixels + 1.0, pixels).transpose(1, 2)
    return torch.nn.functional.fold(other, (8, 8), 2, stride=2)


def test_what_is_hidden_reaches_no_token() -> None:
    network, keep, image = encoder(), KEEP[:, :4], drawn(2, 1, 8, 8).float()
    changed = hidden_changed(image, keep)
    assert not torch.equal(image, changed)
    for one, other in zip(network.walk(image, keep), network.walk(changed, keep), strict=True):
        assert torch.equal(one.tokens, other.tokens)


def test_the_first_blocks_are_those_of_the_whole_run() -> None:
    network, image = encoder(), drawn(2, 1, 8, 8).float()
    whole = network.walk(image, KEEP[:, :5])
    part = network.walk(image, KEEP[:, :5], until=3)
    assert len(part) == 3
    assert torch.equal(part[-1].tokens, whole[2].tokens)


def test_all_tokens_in_another_order_are_the_same_tokens() -> None:
    network, image = encoder().double(), drawn(2, 1, 8, 8)
    plain, mixed = network.walk(image)[-1].tokens, network.walk(image, KEEP)[-1].tokens
    torch.testing.assert_close(mixed[:, 1:], taken(plain[:, 1:], KEEP))
    model = MaskedAutoencoder(network, width=8, heads=2).double()
    straight = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(model(image, KEEP), model(image, straight))


@pytest.mark.parametrize(("ratio", "count"), [(0.75, 12), (0.9, 4), (0.0, 49), (0.98, 0)])
def test_as_many_are_seen_as_the_program_of_mae_keeps(ratio: float, count: int) -> None:
    if count:
        assert visible_patches(49, ratio) == count
    else:
        with pytest.raises(InputError, match="expected one that leaves a patch of 49"):
            visible_patches(49, ratio)
    assert visible_patches(50, 0.9) == 5


def test_seen_and_hidden_patches_part_the_image_and_only_the_hidden_have_a_gradient() -> None:
    pixels, keep = drawn(2, 16, 4), KEEP[:, :6]
    predicted = drawn(2, 16, 4, seed=1).requires_grad_(True)
    loss = masked_pixel_error(predicted, pixels, keep)
    hidden = [sorted(set(range(16)) - set(row)) for row in keep.tolist()]
    by_hand = [
        (predicted[i, j] - pixels[i, j]).square().mean() for i in range(2) for j in hidden[i]
    ]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    loss.backward()
    assert predicted.grad is not None
    assert torch.equal(taken(predicted.grad, keep), torch.zeros(2, 6, 4, dtype=torch.float64))
    assert all(predicted.grad[i, j].abs().sum() > 0 for i in range(2) for j in hidden[i])


def test_unit_vectors_are_as_far_apart_as_their_width_says() -> None:
    for width in (64, 1024):
        found = unit_l1(drawn(1, 500, width), drawn(1, 500, width, seed=1))
        assert float(found) == pytest.approx(1.13 / width**0.5, rel=0.02)
    assert float(unit_l1(drawn(1, 5, 8), 3 * drawn(1, 5, 8))) < 1e-7


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    network = encoder()
    model = MaskedAutoencoder(network, width=8, heads=2)
    module = MaskedDistillation(
        encoder(), model, Optimization(), relations=1.0, relation_teacher=encoder()
    )
    torch.nn.init.eye_(module.projector.weight)
    torch.nn.init.zeros_(module.projector.bias)
    image, keep = drawn(2, 1, 8, 8).float(), KEEP[:, :4]
    own = network.walk(image, keep)
    taught = module.asked("teacher", image, keep, module.teacher_block)
    assert len(taught) == module.student_block == 3
    assert float(unit_l1(module.projector(own[2].tokens), taught[-1].tokens)) == 0.0
    assert float(module.related(own, module.asked("relation_teacher", image, keep))) < 1e-6


def test_relations_do_not_see_a_rotation_and_features_do() -> None:
    queries, keys, values = (drawn(2, 3, 7, 4, seed=seed) for seed in (1, 2, 3))
    rotation = torch.linalg.qr(drawn(4, 4, seed=4)).Q
    turned = (queries @ rotation, keys @ rotation)
    assert float(relation_kl(turned, (queries, keys), True)) < 1e-6
    assert float(relation_kl((values @ rotation,) * 2, (values,) * 2, True)) < 1e-6
    assert float(normed_smooth_l1(values[:, 0] @ rotation, values[:, 0])) > 0.1
    other = (keys, queries)
    assert float(relation_kl(other, (queries, keys), True)) > 0.1


@pytest.mark.parametrize("by_head", [True, False])
def test_relations_of_permuted_tokens_are_the_same(by_head: bool) -> None:
    first, second = (drawn(2, 3, 7, 4, seed=seed) for seed in (1, 2)), drawn(2, 3, 7, 4, seed=3)
    one, two = first
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    plain = relation_kl((one, two), (two, second), by_head)
    mixed = [each[:, :, order] for each in (one, two, second)]
    found = relation_kl((mixed[0], mixed[1]), (mixed[1], mixed[2]), by_head)
    torch.testing.assert_close(found, plain)
    if not by_head:  # other numbers of heads
        assert float(relation_kl((one[:, :1], two[:, :1]), (two, second), False)) > 0


def test_blocks_and_patches_that_do_not_fit_are_refused() -> None:
    model = MaskedAutoencoder(encoder(), width=8, heads=2)
    with pytest.raises(InputError, match="expected the student's 16 patches, found 4"):
        MaskedDistillation(encoder(patch_size=4), model, Optimization())
    with pytest.raises(InputError, match="student_block: expected 1 to 4, found 5"):
        MaskedDistillation(encoder(), model, Optimization(), student_block=5)
    with pytest.raises(InputError, match="not all 0"):
        MaskedDistillation(encoder(), model, Optimization(), reconstruction=0.0, features=0.0)
    with pytest.raises(InputError, match="hides a patch, which reconstruction fills in, found 0"):
        MaskedDistillation(encoder(), model, Optimization(), mask_ratio=0.0)
    with pytest.raises(InputError, match="expected one that hides a patch"):
        MaskedAutoencoding(model, Optimization(), mask_ratio=0.0)


def test_a_model_of_transformers_gives_its_own_tokens(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEModel

    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
        image_size=8, patch_size=2, mask_ratio=0.75,
    )  # fmt: skip
    plain = ViTMAEModel(config).eval()
    plain.save_pretrained(tmp_path)
    found = vit_mae_encoder(str(tmp_path)).eval()
    image = drawn(2, 3, 8, 8).float().clamp(-1, 1)
    keep = KEEP[:, :4]
    # The library keeps the patches of the least noise, in its order.
    noise = torch.ones(2, 16).scatter(1, keep, torch.arange(4.0).expand(2, -1) / 8)
    pixels = (image / 2 + 0.5 - found.mean) / found.std
    states = plain(pixels, noise=noise, output_hidden_states=True).hidden_states
    own = found.walk(image, keep)
    for block, state in zip(own, states[1:], strict=True):
        torch.testing.assert_close(block.tokens, state, rtol=1e-5, atol=1e-5)
    short = vit_mae_encoder(str(tmp_path), blocks=2).eval()
    assert short.depth == 2
    torch.testing.assert_close(short.walk(image, keep)[-1].tokens, own[1].tokens)
    again = build(spec_of(short)).eval()
    again.load_state_dict(short.state_dict())
    torch.testing.assert_close(again.features(image), short.features(image))
    with pytest.raises(InputError, match="blocks: expected 1 to 3, found 4"):
        vit_mae_encoder(str(tmp_path), blocks=4)


def test_an_encoder_below_a_classifier_of_transformers_gives_its_own_tokens(
    tmp_path: Path,
) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
        image_size=8, patch_size=2, num_labels=5,
    )  # fmt: skip
    plain = ViTForImageClassification(config).eval()
    plain.save_pretrained(tmp_path)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    ViTImageProcessor(image_mean=mean, image_std=std).save_pretrained(tmp_path)
    found = vit_encoder(str(tmp_path)).eval()
    image = drawn(2, 3, 8, 8).float().clamp(-1, 1)
    channels = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
    pixels = (image / 2 + 0.5 - next(channels)) / next(channels)
    states = plain(pixels, output_hidden_states=True).hidden_states
    own = found.walk(image)
    for block, state in zip(own, states[1:], strict=True):
        torch.testing.assert_close(block.tokens, state, rtol=1e-5, atol=1e-5)
    again = build(spec_of(found)).eval()
    again.load_state_dict(found.state_dict())
    torch.testing.assert_close(again.features(image), found.features(image))
    ViTImageProcessor(image_mean=[0.5], image_std=[-1, "x"]).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="expected a ViT of transformers"):
        vit_encoder(str(tmp_path))


def test_heads_that_attend_alike_are_seen() -> None:
    queries, keys = drawn(2, 1, 6, 4), drawn(2, 1, 6, 4, seed=1)
    alike = Block(queries[:, 0], queries.expand(-1, 3, -1, -1), keys.expand(-1, 3, -1, -1), keys)
    assert float(head_similarity([alike])) == pytest.approx(1.0)
    shift = torch.eye(6, dtype=torch.float64) * 100
    apart = torch.stack([shift, shift.roll(1, dims=0)])[None]
    same = torch.eye(6, dtype=torch.float64).expand(1, 2, 6, 6)
    assert float(head_similarity([Block(queries[:, 0], apart, same, same)])) < 0.01


def test_a_probe_does_not_care_for_the_scale_of_features() -> None:
    labels = torch.arange(200) % 2
    features = drawn(200, 3)
    features[:, 0] += 4 * labels
    small = [
        linear_probe(features * scale, labels, features * scale, labels) for scale in (1, 1e-6)
    ]
    assert small[0] == small[1] > 0.9
