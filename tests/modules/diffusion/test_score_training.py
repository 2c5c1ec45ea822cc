"""Score distillation in training: several steps, data, discriminator, memory, refusals."""

import pytest
import torch
from torch import nn

from kdlight.core.noise import NoiseStream
from kdlight.diffusion.denoisers import EDMDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.sigmas import KarrasGrid
from kdlight.errors import InputError
from kdlight.networks.images.discriminator import FeatureHead, MeanHead, judged, network_of
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.lora import Adapters
from kdlight.storage.files import load_checkpoint
from kdlight.training.balance import LossBalance
from modules.diffusion.disback import DisBack
from modules.diffusion.dmd import DMD
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.fdistill import FDistill
from modules.diffusion.multi_student import MultiStudent
from modules.diffusion.score_forgetting import ScoreForgetting
from modules.diffusion.sid import SiD
from tests.exactness.cases import CASES
from tests.exactness.diffusion_cases import (
    latent_teacher,
    tiny_denoiser,
    tiny_head,
)
from tests.exactness.harness import BATCH, NOISE, PAIRS, SaveAt, TinyImages, fit, state
from tests.modules.diffusion.score_distillation_examples import made, same

# Several steps ------------------------------------------------------------------------------


def test_all_ranks_stop_their_walks_at_the_same_step():
    drawn = []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        stream = NoiseStream(3)
        found = []
        for iteration in range(200):
            stream.start(iteration, torch.device("cpu"), rank, size)
            stream.normal(torch.empty(12 // size, 2))
            found.append(stream.common(4))
        drawn.append(found)
    assert drawn[0] == drawn[1] == drawn[2]
    counts = torch.tensor(drawn[0]).bincount(minlength=4)
    assert counts.min() >= 30


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_simulated_walk_is_the_samplers_own(last):
    module = made(DMD2, intermediate=[5.0, 1.0])
    module.noise.start(0, torch.device("cpu"))
    module.noise.common = lambda high: last
    drawn, normal = [], module.noise.normal
    module.noise.normal = lambda like: drawn.append(normal(like)) or drawn[-1]
    noise, condition = torch.randn(6, 1, 4, 4), {"label": torch.arange(6) % 2}
    found = module.generate(noise, condition, {})
    assert found.requires_grad
    _, generator = module.generators()["ema.module"]
    assert generator.steps == (1, 2, 3)
    # The sampler's noise is the module's.
    x, levels = noise * 20.0, [20.0, 5.0, 1.0]
    for index in range(last + 1):
        x0 = module.student(x, torch.tensor(levels[index]), condition)
        if index < last:
            x = x0 + levels[index + 1] * drawn[index]
    torch.testing.assert_close(found, x0)
    assert len(drawn) == last


def test_only_the_last_step_of_a_walk_carries_a_gradient():
    module = made(DMD2, intermediate=[5.0])
    module.noise.start(0, torch.device("cpu"))
    module.noise.common = lambda high: 1
    graphs = []
    module.student.register_forward_hook(lambda m, i, out: graphs.append(out.requires_grad))
    module.generate(torch.randn(6, 1, 4, 4), {"label": torch.zeros(6, dtype=torch.int64)}, {})
    assert graphs == [False, True]


def test_noised_data_can_stand_in_for_the_walk():
    module = made(DMD2, intermediate=[5.0], backward_simulation=False)
    module.noise.start(0, torch.device("cpu"))
    module.noise.common = lambda high: 1
    seen = []
    module.student.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    image = torch.full((6, 1, 4, 4), 100.0)
    label = torch.zeros(6, dtype=torch.int64)
    module.generate(torch.randn(6, 1, 4, 4), {"label": label}, {"image": image})
    (x,) = seen
    assert float((x - 100).std()) == pytest.approx(5.0, rel=0.3)


# Data ---------------------------------------------------------------------------------------


class NoImages(TinyImages):
    """A batch of noise and labels; whoever asks for anything else fails."""

    def __init__(self):
        super().__init__(parts=NOISE)


@pytest.mark.parametrize("method", ["diff_instruct", "sid", "score_forgetting"])
def test_these_need_no_data(method):
    module = fit(CASES[method].make(), NoImages())
    assert module.iteration == 20


@pytest.mark.parametrize("name", ["dmd2", "sida", "fdistill", "dmd2_teacher_features"])
def test_a_discriminator_needs_data(name):
    with pytest.raises(InputError, match="data: expected images, for the discriminator or"):
        fit(CASES[name].make(), NoImages())


@pytest.mark.parametrize("parts", [NOISE, ("image", "label")])
def test_dmd_needs_pairs(parts):
    with pytest.raises(InputError, match="data: expected pairs of noise and image"):
        fit(made(DMD), TinyImages(parts=parts))


def test_dmd_regresses_the_noise_of_a_pair_onto_its_image():
    module = made(DMD)
    module.noise.start(0, torch.device("cpu"))
    data = TinyImages(parts=PAIRS)
    batch = next(iter(data.train_dataloader()))
    noise, condition = module.latents(batch)
    assert torch.equal(noise[BATCH:], batch["noise"])
    assert not torch.equal(noise[:BATCH], batch["noise"])
    assert torch.equal(condition["label"], batch["label"].repeat(2))
    x = module.generate(noise, condition, batch)
    expected = module.student(batch["noise"] * 20.0, torch.tensor(20.0), {"label": batch["label"]})
    terms = module.student_terms(batch, x, condition)
    error = (expected - batch["image"]).square().mean()
    torch.testing.assert_close(terms["regression"], error)


# The discriminator --------------------------------------------------------------------------


def test_a_head_judges_activations_and_leaves_the_estimate_alone():
    denoiser, head = tiny_denoiser(), FeatureHead(["input", "blocks.0"], [16, 16], maps=False)
    x, sigma = torch.randn(5, 1, 4, 4), torch.ones(5)
    condition = {"label": torch.zeros(5, dtype=torch.int64)}
    estimate, logits = judged(head, denoiser, x, sigma, condition)
    assert logits.shape == (5, 2)
    assert torch.equal(estimate, denoiser(x, sigma, condition))
    assert not denoiser.network.blocks[0]._forward_hooks


def test_a_head_without_weights_is_the_mean_over_channels():
    assert not list(MeanHead(["x"]).parameters())
    seen = torch.randn(5, 8, 3, 2)
    assert torch.equal(MeanHead(["x"])([seen]), seen.mean(1).flatten(1))
    maps = FeatureHead(["x"], [8])
    assert maps([torch.randn(5, 8, 4, 4)]).shape == (5, 1)


def test_sida_judges_data_and_samples_under_the_same_noise():
    module = CASES["sida"].make()
    seen = []
    module.fake_score.register_forward_pre_hook(lambda m, args: seen.append(args[:2]))
    module.noise.start(0, torch.device("cpu"))
    batch = {"image": torch.randn(6, 1, 4, 4), "label": torch.arange(6) % 2}
    x = torch.randn(6, 1, 4, 4)
    module.critic_terms(batch, x, module.asked(batch))
    (generated, one), (real, other) = seen
    assert torch.equal(one, other)
    torch.testing.assert_close(generated - x, real - batch["image"], rtol=0, atol=1e-4)


def test_sida_weighs_the_judgement_of_the_batch_as_a_whole():
    """The gradient at the logits is that of the mean judgement times the mean weight."""
    module = CASES["sida"].make()
    logits = [torch.randn(6, 3, requires_grad=True) for _ in range(2)]
    sigmas = []

    def judged(noisy, sigma, condition):
        sigmas.append(sigma)
        return noisy, logits[len(sigmas) - 1]

    module.judged = judged
    module.noise.start(0, torch.device("cpu"))
    batch = {"image": torch.randn(6, 1, 4, 4), "label": torch.arange(6) % 2}
    terms = module.critic_terms(batch, torch.randn(6, 1, 4, 4), module.asked(batch))
    terms["discriminator"].backward()
    weight = (1 / sigmas[0] ** 2 + 1 / module.sigma_data**2).mean().float()
    generated, real = (each.detach() for each in logits)
    torch.testing.assert_close(logits[0].grad, weight * torch.sigmoid(generated) / 36)
    torch.testing.assert_close(logits[1].grad, -weight * torch.sigmoid(-real) / 36)


# Memory -------------------------------------------------------------------------------------


def test_a_fake_score_of_adapters_shares_the_teachers_weights_and_is_saved_without(tmp_path):
    pytest.importorskip("peft")
    module = CASES["dmd2_lora"].make()
    teachers = {id(parameter) for parameter in module.teacher.parameters()}
    fake = dict(module.fake_score.named_parameters())
    shared = {name for name, parameter in fake.items() if id(parameter) in teachers}
    assert len(shared) == len(teachers)
    trained = {name for name, parameter in fake.items() if parameter.requires_grad}
    assert trained == {name for name in fake if "lora_" in name}
    assert not {id(parameter) for parameter in module.student.parameters()} & teachers
    fit(module, callbacks=[SaveAt(tmp_path, (3,))])
    saved = load_checkpoint(tmp_path / "3.ckpt")["state_dict"]
    kept = {key for key in saved if key.startswith("critic.")}
    assert kept
    assert all("lora_" in key for key in kept)


def unet_teacher():
    torch.manual_seed(0)
    network = UNet2D(4, 1, num_classes=2, block_out_channels=(8, 8))
    denoiser = EDMDenoiser(network, sigma_max=20.0)
    return Generator(denoiser, KarrasGrid(0.02, 20.0), (1, 4, 4))


@pytest.mark.parametrize("method", [DMD2, SiD])
@pytest.mark.parametrize("adapters", [None, Adapters(rank=2)])
def test_recomputed_activations_give_the_same_gradient(method, adapters):
    if adapters is not None:
        pytest.importorskip("peft")
    trained = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        module = made(
            method,
            teacher=unet_teacher,
            student_every=1,
            iterations=2,
            fake_adapters=adapters,
            checkpointing=checkpointing,
        )
        trained.append(state(fit(module)))
    for key, value in trained[0].items():
        torch.testing.assert_close(trained[1][key], value, rtol=1e-5, atol=1e-6, msg=key)


# The monitor --------------------------------------------------------------------------------


def test_the_balance_is_measured_at_the_samples_before_the_update():
    module = made(DMD2, discriminator=tiny_head, student_every=1, balance=lambda: LossBalance(2))
    logged = []
    module.report = lambda values: logged.append(dict(values))
    fit(module)
    plain = fit(made(DMD2, discriminator=tiny_head, student_every=1))
    assert same(module, plain), "measuring changed the training"
    keys = {"balance/score", "balance/gan", "balance/ratio", "balance/threshold"}
    assert keys <= set(logged[-1])
    norms = [values["balance/score"] for values in logged]
    # Every second update; in between the last one is logged again.
    assert all(norms[i] == norms[i + 1] for i in range(0, 20, 2))
    assert len(set(map(float, norms))) == 10


# Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (DMD2, {"student_every": 0}, "student_every: expected a whole number above 0, found 0"),
        (DMD2, {"features": "data"}, "features: expected fake_score or teacher, found 'data'"),
        (DMD2, {"weights": {"gann": 1.0}}, "weights: expected some of score, gan, .*found gann"),
        (SiD, {"weights": {"gan": 1.0}}, "weights: expected some of score, denoising, found gan"),
        (DMD2, {"weights": {"gan": -1.0}}, r"weights\.gan: expected at least 0, found -1"),
        (DMD2, {"first": 30.0}, "first: expected a noise level above 0, at most the student's 20"),
        (
            DMD2,
            {"fake_adapters": Adapters(2)},
            "adapters: expected a teacher with a network of diffusers",
        ),
        (
            DMD2,
            {"discriminator": lambda: MeanHead(["blocks.9"])},
            "layers: expected names of submodules",
        ),
        (MultiStudent, {"partition": [[0]]}, "partition: expected every class"),
        (
            MultiStudent,
            {"partition": [[0], [1]], "matching_iterations": 20},
            "matching_iterations: expected at least 0 and less than 20, found 20",
        ),
        (
            ScoreForgetting,
            {"forget": {2: 0}},
            "forget: expected classes of the teacher, from 0 to 1",
        ),
        (ScoreForgetting, {"forget": {}}, "forget: expected classes .* found none"),
        (DisBack, {"path_length": 0}, "degradation_iterations: expected path_length >= 0"),
        (
            DisBack,
            {"path_length": 0, "degradation_iterations": 3, "backtracking_iterations": 3},
            "path_length: expected a first stage of at least a batch for each snapshot",
        ),
        (
            FDistill,
            {"discriminator": tiny_head, "divergence": "kl"},
            "divergence: expected one of reverse_kl",
        ),
        (
            FDistill,
            {"discriminator": tiny_head, "ratio_min": 0.0},
            "ratio_min: expected 0 < ratio_min < ratio_max",
        ),
    ],
)
def test_bad_settings_are_named(method, settings, message):
    with pytest.raises(InputError, match=message):
        made(method, **settings)


def test_only_a_network_can_be_judged():
    class Bare(nn.Module):
        pass

    with pytest.raises(InputError, match="discriminator: expected a denoiser with a network"):
        network_of(Bare())
    assert network_of(latent_teacher().denoiser) is not None
