import pytest
import torch
from torch import nn

from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.errors import InputError
from kdlight.losses.language.routing import expert_law, routing_loss
from kdlight.networks.text.state_space import StateSpaceModel
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.surgery.experts import activity, cut_experts, hidden_units, masks_of

UNITS = 16


def dense():
    torch.manual_seed(0)
    network = TokenTransformer(5, width=8, depth=2, heads=2, causal=True, ratio=2.0)
    nn.init.normal_(network.head.weight)
    return AutoregressiveModel(network, 5, 6).eval()


TOKENS = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 1, 0, 2, 2, 3]])


def test_one_domain_that_keeps_all_is_the_dense_model():
    model = dense()
    made = cut_experts(model, torch.ones(1, 2, UNITS, dtype=torch.bool), router_width=8)
    assert made.network._init_args["shared"] == [UNITS, UNITS]
    torch.testing.assert_close(made(TOKENS), model(TOKENS))


def test_a_token_whose_active_units_its_expert_has_is_computed_as_in_the_dense_model():
    model = dense()
    masks = torch.rand(3, 2, UNITS) < 0.5
    masks[0, :, :3] = masks[1, :, :3] = masks[2, :, :3] = True
    made = cut_experts(model, masks, router_width=8).network
    shared = masks.all(dim=0)
    for layer, block in enumerate(made.blocks):
        assert len(block.mlp.up[0]) == int(shared[layer].sum())
        assert torch.equal(block.mlp.masks, masks[:, layer])
    route = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]])
    found = made.routed(TOKENS, route)
    # What the expert lacks is silenced in the dense model, token by token.
    for layer, block in enumerate(model.network.blocks):
        kept = masks[:, layer][route]
        block.mlp[1].register_forward_hook(lambda _, __, output, kept=kept: output * kept)
    torch.testing.assert_close(found, model.network(TOKENS))


def test_units_that_serve_one_domain_each_are_given_back_to_it():
    model = dense()
    planted = torch.arange(UNITS) % 2
    with torch.no_grad():
        # Domain 0 is rows of token 0, domain 1 of token 1: a unit fires at its own token alone.
        for block in model.network.blocks:
            block.project.weight.zero_()
            block.mlp[2].weight.zero_()
            block.mlp[2].bias.zero_()
            block.mlp[0].bias.fill_(-4)
            block.mlp_norm.weight.fill_(1)
            each = nn.functional.layer_norm(model.network.embedding.weight[:2], (8,))
            block.mlp[0].weight.copy_(each[planted] * 8)
    tokens = torch.arange(2).repeat_interleave(3)[:, None].expand(6, 6)
    domain, real = tokens[:, 0], torch.ones(6, 6, dtype=torch.bool)
    found = activity(
        model, [(tokens[:4], real[:4], domain[:4]), (tokens[4:], real[4:], domain[4:])], 2
    )
    masks = masks_of(found, 0.5)
    assert masks.sum(dim=2).tolist() == [[8, 8], [8, 8]]
    for number in range(2):
        assert torch.equal(masks[number], torch.eq(planted, number).expand(2, -1))


def test_activity_is_the_mean_size_over_tokens_that_are_no_padding():
    model = dense()
    real = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    found = activity(model, [(TOKENS, real, torch.tensor([0, 1]))], 2)
    units = hidden_units(model.network, model.begun(TOKENS[:, :-1]))
    torch.testing.assert_close(found[1, 0], units[0][1, :2].double().abs().mean(dim=0))
    with pytest.raises(InputError, match=r"expected rows of all 3 domains, found \[2\]"):
        activity(model, [(TOKENS, real, torch.tensor([0, 1]))], 3)


def test_as_many_units_are_kept_as_are_asked_for():
    scores = torch.arange(10.0).expand(2, 1, 10)
    assert masks_of(scores, 0.5).sum(dim=2).tolist() == [[5], [5]]
    assert masks_of(scores, 0.41).nonzero()[:5, 2].tolist() == [5, 6, 7, 8, 9]
    assert masks_of(scores, 1.0).all()


def test_the_route_depends_on_tokens_alone():
    made = cut_experts(dense(), torch.rand(3, 2, UNITS) < 0.5, router_width=8).network
    before = made.router(TOKENS)
    with torch.no_grad():
        for name, each in made.named_parameters():
            if not name.startswith("router."):
                each.add_(1)
    assert torch.equal(made.router(TOKENS), before)
    other = TOKENS.clone()
    other[:, 3] = 4
    assert torch.equal(made.router(other)[:, :3], before[:, :3])


def test_the_expert_that_holds_what_is_active_is_the_likeliest_by_hand():
    units = torch.tensor([[[5.0, -4, 3, 2, 1, 0, 0, 0, 0, 0]]])
    masks = torch.zeros(2, 10, dtype=torch.bool)
    masks[0, :5], masks[1, 1:6] = True, True
    # The first expert has all of every set, the second all but the most active unit.
    overlap = torch.tensor([1.0, (0 + 1 / 2 + 2 / 3 + 3 / 4 + 4 / 5) / 5])
    expected = (10 * (overlap - overlap.mean())).softmax(dim=0)
    law = expert_law(units, masks)
    torch.testing.assert_close(law[0, 0], expected)
    logits = torch.tensor([[[1.0, -1.0]]])
    log_q = logits.log_softmax(dim=2)[0, 0]
    smooth = 0.75 * torch.tensor([0.75, 0.25]) + 0.25 * expected
    torch.testing.assert_close(routing_loss(logits, law)[0, 0], -(smooth * log_q).sum())
    assert routing_loss(law.log(), law, 0.0) < routing_loss(logits, law, 0.0)


def test_what_is_no_transformer_of_kdlight_is_refused():
    model = AutoregressiveModel(StateSpaceModel(5, width=8, depth=1, heads=2), 5, 6)
    with pytest.raises(InputError, match="expected a causal TokenTransformer"):
        cut_experts(model, torch.ones(1, 1, 32, dtype=torch.bool))
