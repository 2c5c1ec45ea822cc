"""A student told by how it differs from its teacher: width, prediction, resume."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kdlight.core.spec import build, spec_of
from kdlight.diffusion.coordinates import VPDenoiser
from kdlight.diffusion.denoisers import ConsistencyDenoiser, EDMDenoiser, GuidedDenoiser
from kdlight.diffusion.generator import Generator
from kdlight.diffusion.mixture import MixtureDenoiser
from kdlight.diffusion.sigmas import KarrasGrid, TrailingGrid
from kdlight.diffusion.students import LikeTeacher, consistency_student, copy_of, student_of
from kdlight.errors import InputError
from kdlight.networks.images.dit import DiT
from kdlight.networks.images.unet import UNet2D
from kdlight.networks.mlp import ScaleShiftMLP
from kdlight.training.optim import Optimization
from modules.diffusion.consistency_distillation import ConsistencyDistillation
from modules.diffusion.progressive_distillation import ProgressiveDistillation
from tests.exactness.cases import CASES
from tests.exactness.diffusion_cases import tiny_teacher
from tests.exactness.harness import SaveAt, differing, fit, state

UNET = {"size": 8, "channels": 1, "block_out_channels": (16, 32), "dropout": 0.1}


def vp_teacher(prediction: str = "epsilon", **options: object) -> Generator:
    network = UNet2D(**{**UNET, **options})
    denoiser = GuidedDenoiser(VPDenoiser(network, "cosine", prediction))
    return Generator(denoiser, TrailingGrid("cosine"), (1, 8, 8), "euler")


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    "network",
    [
        UNet2D(**UNET, num_classes=3, attention=[True, False]),
        UNet2D(**UNET, options={"norm_num_groups": 4, "block_out_channels": (32, 64)}),
        DiT(size=8, channels=1, width=32, depth=1),
        ScaleShiftMLP((1, 8, 8), 256, 3),
    ],
    ids=["unet", "unet with options", "dit", "mlp"],
)
def test_half_as_wide(network: nn.Module) -> None:
    teacher = Generator(EDMDenoiser(network, 0.7, 0.01, 40.0), KarrasGrid(), (1, 8, 8))
    student = copy_of(teacher, 0.3, LikeTeacher(width=0.5))
    assert parameters(student) < 0.45 * parameters(network)
    assert (student.sigma_data, student.sigma_min, student.sigma_max) == (0.7, 0.01, 40.0)
    assert {m.p for m in student.modules() if isinstance(m, nn.Dropout)} == {0.3}
    again = build(spec_of(student))  # as a checkpoint holds it: the network alone
    again.load_state_dict(student.state_dict())
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 3.0])
    assert torch.equal(again.eval()(x, sigma), student.eval()(x, sigma))


def test_another_prediction_starts_from_the_teachers_weights() -> None:
    teacher = vp_teacher()
    student = copy_of(teacher, like=LikeTeacher(prediction="v_prediction"))
    assert isinstance(student, VPDenoiser)
    assert student.prediction == "v_prediction"
    assert student.alphas_cumprod.equal(teacher.denoiser.denoiser.alphas_cumprod)
    weights, original = student.state_dict(), teacher.denoiser.denoiser.state_dict()
    assert all(torch.equal(weights[name], original[name]) for name in original)
    next(student.parameters()).data.add_(1)
    assert not torch.equal(next(student.parameters()), next(teacher.parameters()))
    assert spec_of(student)["init_args"]["prediction"] == "v_prediction"


def test_both_at_once_and_what_the_method_makes_of_it() -> None:
    both = copy_of(vp_teacher(), like=LikeTeacher(0.5, "sample"))
    assert (both.prediction, both.network.model.config.block_out_channels) == ("sample", (8, 16))
    student = consistency_student(tiny_teacher(), like=LikeTeacher(0.5))
    assert isinstance(student, ConsistencyDenoiser)
    assert parameters(student) < parameters(tiny_teacher())
    distilled = ProgressiveDistillation(
        vp_teacher(), Optimization(), 4, student=LikeTeacher(prediction="v_prediction")
    )
    assert distilled.student.prediction == "v_prediction"
    with pytest.raises(InputError, match="epsilon prediction says nothing"):
        ProgressiveDistillation(vp_teacher(), Optimization(), 4, student=LikeTeacher(0.5))


def test_what_cannot_be_is_one_sentence() -> None:
    class Fixed(ScaleShiftMLP):
        of_width = None

    fixed = Generator(EDMDenoiser(Fixed((2,), 8, 1)), KarrasGrid(), (2,))
    exact = MixtureDenoiser([[0.0, 1.0]])
    for teacher, like, message in (
        (fixed, LikeTeacher(0.5), r"width: .* \(of_width\), .*, found a Fixed"),
        (tiny_teacher(), LikeTeacher(prediction="sample"), "no VPDenoiser but EDMDenoiser, found"),
        (vp_teacher(), LikeTeacher(0.3), r"multiples of 8, .* found \[5, 10\] as 0.3 times"),
        (Generator(exact, KarrasGrid(), (2,)), LikeTeacher(0.5), "teacher without weights"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            copy_of(teacher, like=like)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"student.width: .* above 0, found 0"):
        LikeTeacher(0.0)
    with pytest.raises(InputError, match="expected a teacher or a student"):
        student_of(None, None, None, copy_of)


def test_resumed_to_the_bit(tmp_path: Path) -> None:
    def made() -> ConsistencyDistillation:
        return ConsistencyDistillation(
            tiny_teacher(), Optimization(), iterations=6, student=LikeTeacher(width=0.5)
        )

    data = CASES["consistency_distillation"].data
    whole = fit(made(), data(), [SaveAt(tmp_path, (3,))])
    resumed = fit(made(), data(), ckpt_path=tmp_path / "3.ckpt")
    assert not list(differing(state(whole), state(resumed)))
