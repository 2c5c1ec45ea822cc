import pytest
import torch

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.networks.text.pretrained import CausalLM
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.surgery.families import anatomy_of
from kdlight.surgery.importance import loss_without_layers, measure
from kdlight.surgery.pruning import choose, every, highest, prune, shuffled
from tests.surgery.networks import (
    CONFIGS,
    KINDS,
    batches,
    model_of,
    plant_channels,
    put,
    without_eps,
)

TOKENS = batches()[0][0]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pruning_nothing_gives_the_same_bits(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    whole = prune(model, anatomy, {}, measure(model, anatomy, batches()))
    assert torch.equal(whole(TOKENS), model(TOKENS))
    assert whole.network is not model.network


@pytest.mark.parametrize("kind", KINDS)
def test_planted_hidden_units_go_first_and_cutting_them_changes_no_logit(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    for block in anatomy.blocks:
        put(model.network, block.mlp, [1, 4, 11])
    importance = measure(model, anatomy, batches())
    assert importance.mlp[:, [1, 4, 11]].abs().max() == 0
    found = prune(model, anatomy, {"mlp": 9}, importance)
    assert anatomy_of(found.network).sizes.mlp == 9
    close(found(TOKENS), model(TOKENS))


@pytest.mark.parametrize("kind", KINDS)
def test_planted_heads_go_first_with_the_keys_that_they_share(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    for block in anatomy.blocks:
        put(model.network, block.heads, [0, 1], anatomy.head_width)
        # The values of the first group, so that its heads say nothing where they are apart.
        put(model.network, block.groups, [0], anatomy.head_width)
    importance = measure(model, anatomy, batches())
    assert importance.heads[:, :2].abs().max() == 0
    if kind == "gpt2":
        return  # its heads go with channels
    found = prune(model, anatomy, {"heads": 2}, importance)
    close(found(TOKENS), model(TOKENS))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gpt2"])
def test_planted_channels_go_first_and_norms_make_up_for_them(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    plant_channels(model.network, anatomy, [2, 3, 9, 14])
    importance = measure(model, anatomy, batches())
    assert sorted(importance.width.argsort()[:4].tolist()) == [2, 3, 9, 14]
    found = prune(model, anatomy, {"width": 12}, importance)
    # RMS norms of transformers compute in float32, whatever they are given.
    expected, logits = (without_eps(each)(TOKENS) for each in (model, found))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_heads_and_channels_of_gpt2_go_together():
    model = model_of("gpt2")
    anatomy = anatomy_of(model.network)
    plant_channels(model.network, anatomy, [2, 3, 9, 14])
    for block in anatomy.blocks:
        put(model.network, block.heads, [2], anatomy.head_width)
    importance = measure(model, anatomy, batches())
    found = prune(model, anatomy, {"width": 12, "heads": 3}, importance)
    # RMS norms of transformers compute in float32, whatever they are given.
    expected, logits = (without_eps(each)(TOKENS) for each in (model, found))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="expected a width of 4 a head .* width=12 and heads=4"):
        prune(model, anatomy, {"width": 12}, importance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_layer_goes_first(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    block = anatomy.blocks[1]
    state = model.network.state_dict()
    for name in (block.behind_heads, block.behind_mlp):
        for each in ("weight", "bias"):
            if f"{name}.{each}" in state:
                state[f"{name}.{each}"].zero_()
    importance = measure(model, anatomy, batches())
    assert importance.layers.argmin() == 1
    assert float(importance.layers[1]) == pytest.approx(0, abs=1e-7)
    lost = loss_without_layers(model, anatomy, batches())
    assert float(lost[1]) == pytest.approx(importance.nll, abs=1e-6)
    found = prune(model, anatomy, {"layers": 2}, importance)
    close(found(TOKENS), model(TOKENS))


@pytest.mark.parametrize("kind", KINDS)
def test_all_cuts_at_once_give_a_network_of_these_sizes(kind):
    model = model_of(kind)
    anatomy = anatomy_of(model.network)
    keep = {"layers": 2, "width": 8, "mlp": 5, "heads": 2}
    found = prune(model, anatomy, keep, measure(model, anatomy, batches()))
    sizes = anatomy_of(found.network).sizes
    assert (sizes.layers, sizes.width, sizes.mlp, sizes.heads) == (2, 8, 5, 2)
    assert anatomy_of(found.network).head_width == anatomy.head_width
    assert found(TOKENS).isfinite().all()
    found(TOKENS).sum().backward()


def test_scores_do_not_depend_on_the_batches_nor_on_padding():
    model = model_of("llama")
    anatomy = anatomy_of(model.network)
    once, many = (measure(model, anatomy, batches(size=size)) for size in (12, 1))
    for name in ("mlp", "heads", "width", "layers", "energy"):
        torch.testing.assert_close(getattr(once, name), getattr(many, name), rtol=1e-6, atol=1e-9)
    padded = []
    for tokens, _ in batches():
        longer = torch.nn.functional.pad(tokens, (0, 2), value=7)
        padded.append((longer, torch.arange(longer.shape[1]).expand_as(longer) < tokens.shape[1]))
    found = measure(model, anatomy, padded)
    torch.testing.assert_close(found.mlp, once.mlp, rtol=1e-6, atol=1e-9)
    assert found.nll == pytest.approx(once.nll, abs=1e-6)


def test_a_score_by_hand():
    # Two sequences: means over tokens 0.5 and 2; the root of the sum of their squares.
    model = model_of("own")
    anatomy = anatomy_of(model.network)
    given = {}
    module = model.network.get_submodule(anatomy.blocks[0].behind_mlp)
    handle = module.register_forward_hook(lambda _, args, __: given.update(x=args[0]))
    tokens = TOKENS[:2]
    found = measure(model, anatomy, [(tokens, torch.ones_like(tokens, dtype=torch.bool))])
    handle.remove()
    by_hand = given["x"].double().abs().mean(1).square().sum(0).sqrt()
    torch.testing.assert_close(found.mlp[0], by_hand)


def test_a_large_unit_that_nobody_reads_scores_high():
    model = model_of("own")
    anatomy = anatomy_of(model.network)
    state = model.network.state_dict()
    state["blocks.0.mlp.0.weight"][3] = 0
    state["blocks.0.mlp.0.bias"][3] = 9
    state["blocks.0.mlp.2.weight"][:, 3] = 0
    importance = measure(model, anatomy, batches())
    assert importance.mlp[0].argmax() == 3


def test_influence_of_a_layer_is_blind_to_scale():
    values = torch.randn(2, 3, 8)
    assert float(1 - torch.cosine_similarity(values, 3 * values, dim=2).mean()) < 1e-6


def test_ranks_are_stable_and_controls_are_random():
    assert highest(torch.tensor([1.0, 2, 2, 0, 2]), 2).tolist() == [1, 2]
    assert every(6, 3).nonzero()[:, 0].tolist() == [1, 3, 5]
    assert every(5, 2).nonzero()[:, 0].tolist() == [1, 4]
    model = model_of("own")
    anatomy = anatomy_of(model.network)
    importance = measure(model, anatomy, batches())
    sizes = anatomy.after({"mlp": 6})
    kept = [choose(anatomy, sizes, shuffled(importance, seed)).mlp for seed in (0, 0, 1)]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])


def test_what_does_not_fit_is_named():
    model = model_of("llama")
    anatomy = anatomy_of(model.network)
    for keep, said in (
        ({"experts": 2}, "expected some of layers, width, mlp, heads, found 'experts'"),
        ({"mlp": 13}, "mlp: expected 1 to 12, found 13"),
        ({"layers": 0}, "layers: expected 1 to 3, found 0"),
        ({"heads": 3}, "heads: expected a multiple of the 2 that share a key, found 3"),
    ):
        with pytest.raises(InputError, match=said):
            anatomy.after(keep)
    with pytest.raises(InputError, match="expected a causal transformer, found Linear"):
        anatomy_of(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="expected whole weights, found adapters"):
        anatomy_of(CausalLM(CONFIGS["llama"], 11, rank=2))
    bloom = {"model_type": "bloom", "vocab_size": 11, "hidden_size": 8, "n_layer": 1, "n_head": 2}
    with pytest.raises(InputError, match="expected one of llama, .*, gpt2 .* found 'bloom'"):
        anatomy_of(CausalLM(bloom, 11))


def test_a_head_may_have_a_width_of_its_own():
    network = TokenTransformer(5, width=6, depth=1, heads=2, causal=True, head_width=4)
    assert network.blocks[0].qkv.weight.shape == (24, 6)
    with pytest.raises(InputError, match="head_width: expected an even number, found 3"):
        TokenTransformer(5, width=6, depth=1, heads=2, head_width=3)
    model = AutoregressiveModel(network, 5, 4)
    assert anatomy_of(model.network).head_width == 4
