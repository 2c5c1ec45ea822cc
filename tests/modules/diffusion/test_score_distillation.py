"""Methods of score distillation: whose turn it is, what a gradient reaches, what equals what."""

import copy

import pytest
import torch

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.router import RoutedDenoiser
from kdlight.errors import InputError
from kdlight.losses.scores import IntegralKL, ScoreIdentity
from kdlight.networks.images.discriminator import MeanHead
from kdlight.training.optim import Optimization
from modules.diffusion.diff_instruct import DiffInstruct
from modules.diffusion.disback import DisBack
from modules.diffusion.dmd2 import DMD2
from modules.diffusion.fdistill import FDistill
from modules.diffusion.multi_student import MultiStudent
from modules.diffusion.score_distillation import ScoreDistillationModule
from modules.diffusion.score_forgetting import ScoreForgetting
from modules.diffusion.sid import SiD
from modules.diffusion.sida import SiDA
from tests.exactness.cases import CASES
from tests.exactness.diffusion_cases import (
    tiny_denoiser,
    tiny_head,
)
from tests.exactness.harness import NOISE, SaveAt, TinyImages, differing, fit, state
from tests.modules.diffusion.score_distillation_examples import made, same

METHODS = {
    name: case
    for name, case in CASES.items()
    if isinstance(case.make(), ScoreDistillationModule) and "lora" not in name
}


# Turns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_no_gradient_crosses_from_one_part_to_another(name):
    case, reached = METHODS[name], []
    module = case.make()
    trained = [key for key, each in module.named_parameters() if each.requires_grad]
    parts = {
        part: {k for k in trained if k.startswith(f"{part}.")} for part in ("student", "critic")
    }
    optimize = module.optimize

    def watched(part, loss):
        for parameter in module.parameters():
            parameter.grad = None
        backward = module.manual_backward

        def looking(loss):
            backward(loss)
            found = {k for k, each in module.named_parameters() if each.grad is not None}
            reached.append((part, found))

        module.manual_backward = looking
        optimize(part, loss)
        module.manual_backward = backward

    module.optimize = watched
    fit(module, TinyImages(parts=case.parts))
    assert {part for part, _ in reached} == {"student", "critic"}
    for part, found in reached:
        assert found <= parts[part]
        # Of several experts one may have no sample in the batch; before its turn comes the head
        # of DisBack has nothing to judge.
        if name not in ("multi_student", "disback"):
            assert found == parts[part], part
    # What was held is trained again.
    after = [key for key, each in module.named_parameters() if each.requires_grad]
    assert after == trained


@pytest.mark.parametrize(("every", "accumulate"), [(1, 1), (2, 1), (5, 1), (2, 3), (5, 2)])
def test_the_two_time_scales_are_exact(every, accumulate):
    module = made(DMD2, student_every=every, accumulate=accumulate, iterations=30)
    steps = {"student": 0, "critic": 0}
    before = module.on_before_optimizer_step

    def counted(optimizer):
        steps[module._name_of(optimizer)] += 1
        before(optimizer)

    module.on_before_optimizer_step = counted
    fit(module)
    updates = 30 // accumulate
    assert steps == {"student": updates // every, "critic": updates}
    # The average moves with the student, not with the critic.
    assert module.ema.updates == updates // every


def test_the_student_does_not_move_out_of_its_turn():
    module = made(DMD2, discriminator=tiny_head, iterations=4)  # the fifth batch would be its turn
    before = copy.deepcopy(state(module))
    fit(module)
    moved = set(differing(before, state(module)))
    assert moved
    assert all(key.startswith("critic.") for key in moved)


@pytest.mark.parametrize("method", [DiffInstruct, SiD])
def test_the_fake_score_and_the_student_see_samples_of_their_own(method):
    module, seen = made(method, iterations=1), []
    generate = module.generate
    module.generate = lambda noise, *rest: seen.append(noise) or generate(noise, *rest)
    fit(module, TinyImages(parts=NOISE))
    first, second = seen
    assert not torch.equal(first, second)


def test_dmd2_trains_the_critic_on_the_samples_of_the_student():
    module, seen = made(DMD2, student_every=1, iterations=1), []
    terms, critic_terms = module.student_terms, module.critic_terms
    module.student_terms = lambda batch, x, c: seen.append(x) or terms(batch, x, c)
    module.critic_terms = lambda batch, x, c: seen.append(x) or critic_terms(batch, x, c)
    fit(module)
    of_student, of_critic = seen
    assert torch.equal(of_student, of_critic)
    assert of_student.requires_grad
    assert not of_critic.requires_grad


# What equals what ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [None, IntegralKL, ScoreIdentity])
def test_disback_without_a_path_is_dmd2(objective):
    settings = {"discriminator": tiny_head, "objective": objective}
    plain = fit(made(DMD2, **settings))
    none = {"path_length": 0, "degradation_iterations": 0, "backtracking_iterations": 0}
    assert same(plain, fit(made(DisBack, **settings, **none)))


def test_multi_student_of_one_part_is_dmd2():
    settings = {"discriminator": tiny_head}
    plain = fit(made(DMD2, **settings))
    routed = fit(made(MultiStudent, partition=[[0, 1]], **settings))
    assert same(plain, routed, lambda key: key.replace("experts.0.", ""))


def test_what_remains_in_score_forgetting_is_sid():
    """Of two classes, one forgotten, the other remains: SiD asked for that one alone."""

    class OfOne(SiD):
        def asked(self, batch):
            self.noise.integers(len(batch["label"]), 1)
            return {"label": torch.zeros_like(batch["label"])}

    data = TinyImages(parts=NOISE)
    plain = fit(made(OfOne), data)
    assert not same(plain, fit(made(ScoreForgetting, forget={1: 0}), data))
    forgetful = made(ScoreForgetting, forget={1: 0})
    # Without the second batches, which draw noise too.
    forgetful.student_terms = lambda *given: SiD.student_terms(forgetful, *given)
    forgetful.critic_terms = lambda *given: SiD.critic_terms(forgetful, *given)
    assert same(plain, fit(forgetful, data))


def test_fdistill_by_the_reverse_kl_is_dmd2():
    plain = fit(made(DMD2, discriminator=tiny_head))
    assert same(plain, fit(made(FDistill, discriminator=tiny_head, divergence="reverse_kl")))
    forward = fit(made(FDistill, discriminator=tiny_head, divergence="forward_kl"))
    assert not same(plain, forward)
    binned = made(FDistill, discriminator=tiny_head, divergence="forward_kl", ratio_bins=10)
    assert not same(forward, fit(binned))


def test_sida_without_its_adversarial_terms_is_sid_with_alpha_one():
    plain = fit(made(SiD, objective=lambda: ScoreIdentity(1.0)))
    none = {"weights": {"gan": 0.0, "discriminator": 0.0}}
    assert same(plain, fit(made(SiDA, discriminator=lambda: MeanHead(["input"]), **none)))


# DisBack ------------------------------------------------------------------------------------


def test_the_path_is_what_the_fake_score_was_and_is_walked_back():
    module = made(
        DisBack,
        student_every=1,
        iterations=24,
        path_length=3,
        degradation_iterations=8,
        backtracking_iterations=9,
    )
    kept, targets = {}, []
    after, real = module.after_iteration, module.real

    def remembering():
        after()
        kept[module.iteration] = copy.deepcopy(module.fake_score.state_dict())

    def looking(x, sigma, condition):
        estimate = real(x, sigma, condition)
        known = [*module.path, module.guided]
        with torch.no_grad():
            agree = [torch.equal(each(x, sigma, condition), estimate) for each in known]
        targets.append(agree.index(True))
        return estimate

    module.after_iteration, module.real = remembering, looking
    before = copy.deepcopy(state(module))
    fit(module)
    for snapshot, iteration in zip(module.path, (2, 4, 6), strict=True):
        expected = kept[iteration]
        assert all(torch.equal(v, expected[k]) for k, v in snapshot.state_dict().items())
    # The last snapshot first; after all of them the teacher (here number 3).
    assert targets == [2, 2, 2, 1, 1, 1, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3]
    assert module.ema.updates == 16
    assert not any(torch.equal(v, before[k]) for k, v in state(module).items() if ".up.w" in k)


def test_degradation_leaves_the_student_alone():
    settings = {"path_length": 1, "degradation_iterations": 6, "backtracking_iterations": 1}
    module = made(DisBack, iterations=8, student_every=1, **settings)
    before = copy.deepcopy(state(module))

    class Look(SaveAt):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if module.iteration == 6:
                self.moved = {key.split(".")[0] for key in differing(before, state(module))}

    look = Look(None, ())
    fit(module, callbacks=[look])
    assert look.moved == {"critic", "path"}


# Several students ---------------------------------------------------------------------------


def routed():
    return RoutedDenoiser([tiny_denoiser(1), tiny_denoiser(2)], [[1], [0]])


def test_every_sample_goes_to_the_expert_of_its_class():
    router = routed()
    x, label = torch.randn(9, 1, 4, 4), torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1])
    sigma = torch.linspace(0.1, 5, 9)
    found = router(x, sigma, {"label": label})
    for index, expert in enumerate(router.experts):
        own = label == 1 - index
        expected = expert(x[own], sigma[own], {"label": label[own]})
        assert torch.allclose(found[own], expected, atol=1e-6)
    with pytest.raises(InputError, match="label: a student of several experts needs one"):
        router(x, sigma)


def test_a_router_comes_back_from_its_description():
    router = routed()
    again = build(spec_of(router))
    again.load_state_dict(router.state_dict())
    x, label = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 1, 0])
    condition = {"label": label}
    assert torch.equal(
        router(x, torch.tensor(1.0), condition), again(x, torch.tensor(1.0), condition)
    )
    assert again.num_classes == 2
    assert again.network_calls == 1


@pytest.mark.parametrize("partition", [[[0], [0]], [[0, 1]], [[0], [2]], [[0], []]])
def test_a_partition_holds_every_class_once(partition):
    with pytest.raises(InputError, match="partition: expected every class from 0 to 1 once, in 2"):
        RoutedDenoiser([tiny_denoiser(1), tiny_denoiser(2)], partition)


def test_students_first_learn_to_denoise_as_the_teacher_does():
    module = made(
        MultiStudent,
        partition=[[0], [1]],
        student=lambda: tiny_denoiser(7),
        matching_iterations=300,
        iterations=301,
        optimizer=lambda: Optimization(lr=1e-2, decay="cosine"),
        ema_half_life=1.0,
    )
    x, condition = torch.randn(200, 1, 4, 4), {"label": torch.arange(200) % 2}
    sigma = torch.logspace(-1, 1, 200)

    def distance():
        with torch.no_grad():
            error = module.student(x, sigma, condition) - module.guided(x, sigma, condition)
        return float(error.square().mean())

    before = distance()
    fit(module)
    assert distance() < before / 10


# Forgetting ---------------------------------------------------------------------------------


def test_the_teacher_alone_is_asked_for_the_class_in_its_place():
    module = made(ScoreForgetting, forget={1: 0})
    x, sigma = torch.randn(6, 1, 4, 4), torch.ones(6)
    label = torch.tensor([0, 1, 0, 1, 1, 0])
    found = module.real(x, sigma, {"label": label})
    expected = module.guided(x, sigma, {"label": torch.zeros(6, dtype=torch.int64)})
    assert torch.equal(found, expected)


def test_forgotten_samples_have_a_batch_and_terms_of_their_own():
    module, asked = made(ScoreForgetting, forget={1: 0}), []
    generate, score = module.generate, module.score
    module.generate = lambda noise, c, batch: asked.append(c["label"]) or generate(noise, c, batch)
    losses = []
    module.score = lambda x, c: losses.append(score(x, c)) or losses[-1]
    batch = {"noise": torch.randn(6, 1, 4, 4), "label": torch.tensor([0, 1, 0, 1, 1, 0])}
    module.noise.start(0, torch.device("cpu"))
    condition = module.asked(batch)
    assert condition["label"].tolist() == [0] * 6, "what remains alone"
    x = generate(batch["noise"], condition, batch)
    terms = module.student_terms(batch, x, condition)
    assert [label.tolist() for label in asked] == [[1] * 6]
    assert torch.equal(terms["score"], losses[0].mean())
    assert torch.equal(terms["forgetting"], losses[1].mean())
    critic = module.critic_terms(batch, x.detach(), condition)
    assert [label.tolist() for label in asked] == [[1] * 6] * 2
    assert set(critic) == {"denoising", "forgetting_denoising"}
    assert (module.weights["forgetting"], module.weights["forgetting_denoising"]) == (0.01, 0.01)
