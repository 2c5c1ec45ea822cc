"""Settings of speed change how a method is computed, not what it computes."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from kdlight.errors import InputError
from kdlight.training.optim import Optimization
from kdlight.training.sharding import ShardedStrategy
from kdlight.training.speed import Speed
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, differing, fit, state

CASE = CASES["latent_consistency"]  # of convolutions


def test_fast_is_plain_to_rounding() -> None:
    plain, fast = CASE.make(), CASE.make()
    keys = list(fast.state_dict())
    Speed(compile=True, channels_last=True, fused=True).apply(fast)
    assert list(fast.state_dict()) == keys
    laid = [p for p in fast.student.parameters() if p.ndim == 4 and p.shape[-1] > 1]
    assert laid
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in laid)
    assert any(part._compiled_call_impl is not None for part in fast.student.modules())
    with torch.compiler.set_stance("force_eager"):  # what it compiles to is the compiler's affair
        found = state(fit(fast, CASE.data()))
    for key, value in state(fit(plain, CASE.data())).items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)


class Groups(L.Callback):
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        (group,) = trainer.optimizers[0].param_groups
        self.found = (group["foreach"], group["fused"])


@pytest.mark.parametrize("fused", [False, True])
def test_the_configuration_says_how_a_resumed_run_computes(fused: bool, tmp_path: Path) -> None:
    case, groups = CASES["consistency_distillation"], Groups()
    first, second = case.make(), case.make()
    Speed(fused=not fused).apply(first)
    Speed(fused=fused).apply(second)
    fit(first, case.data(), [SaveAt(tmp_path, (19,))])
    fit(second, case.data(), [groups], tmp_path / "19.ckpt")
    assert groups.found == (not fused, fused)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="fused: expected false with precision 16-mixed"):
        Speed(fused=True).apply(CASE.make(), "16-mixed")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match="adam_8bit needs the package bitsandbytes"):
        Optimization(algorithm="adam_8bit").build([nn.Parameter(torch.zeros(2))])


class Whereabouts(L.Callback):
    """Where the weights of a teacher's block lie between steps and while it is called."""

    def __init__(self) -> None:
        self.between: set[int] = set()
        self.called: set[int] = set()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        block = pl_module.get_submodule("teacher.denoiser.network.blocks.0")
        weight = next(block.parameters())
        self.between.add(weight.data_ptr())
        if not self.called:
            block.register_forward_hook(lambda *_: self.called.add(weight.data_ptr()), prepend=True)


def test_a_teacher_on_the_host_visits_and_teaches_the_same() -> None:
    case, seen = CASES["dmd2"], Whereabouts()
    plain, offloaded = case.make(), case.make()
    Speed(offload_teacher=True).apply(offloaded)
    found = state(fit(offloaded, case.data(), [seen]))
    assert not list(differing(found, state(fit(plain, case.data()))))
    assert len(seen.between) == 1
    assert seen.called
    assert not seen.called & seen.between
    assert not any(part._forward_pre_hooks for part in offloaded.teacher.modules())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sid", "expected false for a method that follows gradients through its teacher"),
        ("dmd2_lora", "expected false where no frozen network has whole weights of its own"),
    ],
)
def test_where_a_teacher_cannot_wait_on_the_host(name: str, sentence: str) -> None:
    module = CASES[name].make()
    Speed(offload_teacher=True).apply(module)
    with pytest.raises(InputError, match=sentence):
        fit(module, CASES[name].data())


def test_codecs_are_not_sharded() -> None:
    module = CASES["codec_training"].make()
    module.trainer = L.Trainer(accelerator="cpu", devices=1, strategy=ShardedStrategy("gloo"))
    with pytest.raises(
        InputError, match="CodecTraining cannot be sharded, expected configs/base/d"
    ):
        module.configure_model()
