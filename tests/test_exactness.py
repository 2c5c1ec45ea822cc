"""Every method: resume, ranks, teachers, guard."""

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch

from kdlight.errors import InputError
from kdlight.storage.files import load_checkpoint
from kdlight.training.base import DistillationModule
from tests.exactness.cases import CASES
from tests.exactness.harness import SaveAt, differing, fit, state
from tests.modules.speech.guided_cases import TinyTalk, guided
from tests.ranks import run_two_ranks

each_method = pytest.mark.parametrize("name", sorted(CASES))


def test_every_method_has_its_case() -> None:
    made = [type(case.make()) for case in CASES.values()]
    held = {cls.__module__ for cls in made}
    # What methods share has no algorithm of its own.
    held |= {
        cls.__module__
        for each in made
        for cls in each.__mro__
        if getattr(cls, "step", None) is DistillationModule.step
        and cls.__module__.startswith("modules.")
    }
    root = Path(__file__).parents[1]
    files = [file for file in root.glob("modules/*/**/*.py") if file.stem != "__init__"]
    assert {".".join(file.relative_to(root).with_suffix("").parts) for file in files} == held


def stops(name: str, accumulate: int) -> list[int]:
    """Where the runs of a method are stopped, in batches with 7 an epoch.

    Around each of its own stage boundaries, inside an epoch and an accumulation, and, where batches
    are accumulated, one before the end. What all methods have in common is tried on the plainest in
    full: the first batch, and just before, at and after an epoch's end.
    """
    case = CASES[name]
    common = {1, 6, 7, 8, 14, 15} if name == "diffusion_training" else set()
    last = {case.iterations - 1} if accumulate > 1 else set()
    return sorted({4, *case.boundaries, *common, *last})


class Whole(NamedTuple):
    """A run that was not stopped: its checkpoints, and what was trained."""

    folder: Path
    state: dict[str, torch.Tensor]
    module: DistillationModule
    before: dict[str, torch.Tensor]
    """Parameters as they were before the first batch."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Whole]:
    """What is known of a run that was not stopped."""

    @functools.cache
    def run(name: str, accumulate: int = 1) -> Whole:
        case, folder = CASES[name], tmp_path_factory.mktemp(name)
        module = case.make(accumulate=accumulate)
        before = {k: v.clone() for k, v in module.named_parameters(remove_duplicate=False)}
        fit(module, case.data(), [SaveAt(folder, tuple(stops(name, accumulate)))])
        assert module.iteration == case.iterations
        return Whole(folder, state(module), module, before)

    return run


@each_method
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resume_is_bit_equal_wherever_the_run_stopped(
    name: str, accumulate: int, whole: Callable[..., Whole]
) -> None:
    case = CASES[name]
    unbroken = whole(name, accumulate)
    for stop in stops(name, accumulate):
        checkpoint = unbroken.folder / f"{stop}.ckpt"
        resumed = fit(case.make(accumulate=accumulate), case.data(), ckpt_path=checkpoint)
        assert resumed.iteration == case.iterations
        assert not list(differing(unbroken.state, state(resumed))), f"stopped after {stop}"


@pytest.fixture(scope="module")
def two_ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the cases asked for, after two real processes trained them together."""
    folder = tmp_path_factory.mktemp("ranks")
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if "two_ranks" in getattr(item, "fixturenames", ()) and "[" in item.name
        if "name" in item.callspec.params
    }
    run_two_ranks("tests.exactness", str(folder), *sorted(asked), timeout=900)
    return folder


@each_method
def test_two_ranks_equal_one_at_the_joint_batch(
    name: str, two_ranks: Path, whole: Callable[..., Whole]
) -> None:
    one = whole(name).state
    first, second = (torch.load(two_ranks / f"{name}_{rank}.pt") for rank in (0, 1))
    assert not list(differing(first, second)), "ranks drifted apart"
    for key in one:
        # Two half sums in another order: equal to rounding, not to the bit.
        torch.testing.assert_close(one[key], first[key], rtol=2e-4, atol=2e-5, msg=key)


def test_ranks_fill_one_cache_and_equal_one_that_fills_it(two_ranks: Path, tmp_path: Path) -> None:
    one = state(fit(guided(cache=tmp_path), TinyTalk(4)))
    first, second = (torch.load(two_ranks / f"cached_{rank}.pt") for rank in (0, 1))
    assert not list(differing(first, second)), "ranks drifted apart"
    for key in one:
        torch.testing.assert_close(one[key], first[key], rtol=2e-4, atol=2e-5, msg=key)
    files = {path.name for path in (two_ranks / "cache").rglob("*.safetensors")}
    heard = TinyTalk().training_utterances()
    assert len(files) == len(heard) + len({utterance.transcript for utterance in heard})
    assert not list((two_ranks / "cache").rglob(".*"))


@pytest.mark.parametrize(("accumulate", "students", "critics"), [(1, 4, 20), (4, 1, 5)])
def test_ranks_exchange_what_is_trained_once_an_update(
    accumulate: int, students: int, critics: int, two_ranks: Path
) -> None:
    module = CASES["dmd2"].make()
    sizes = Counter(json.loads((two_ranks / f"sent_{accumulate}.json").read_text()))
    for name, updates in (("student", students), ("critic", critics)):
        trained = module.trained(name)
        assert sizes.pop(sum(parameter.nbytes for parameter in trained)) == updates
        # Whether any rank has a gradient, for every parameter.
        assert sizes.pop(4 * len(trained)) == updates
    assert max(sizes) <= 16, "the trainer's own: whether to stop"


@each_method
def test_a_teacher_is_neither_trained_nor_saved(name: str, whole: Callable[..., Whole]) -> None:
    folder, _, module, before = whole(name)
    checkpoint = load_checkpoint(folder / "4.ckpt")
    parts = [module.get_submodule(name) for name in module.frozen]
    shared = {id(parameter) for part in parts for parameter in part.parameters()}
    named = module.named_parameters(remove_duplicate=False)
    teachers = {key for key, parameter in named if id(parameter) in shared}
    assert not teachers & checkpoint["state_dict"].keys()
    for frozen in module.frozen:
        assert not [key for key in checkpoint["state_dict"] if key.startswith(f"{frozen}.")]
        for key, parameter in module.get_submodule(frozen).named_parameters():
            if parameter.dim() == 2 and parameter.std() > 0:  # zeros are zeros anywhere
                assert not any(
                    saved.shape == parameter.shape and torch.equal(saved, parameter)
                    for part, saved in checkpoint["state_dict"].items()
                    # These start as the teacher; a weight that never moved is their own.
                    if torch.is_tensor(saved)
                    and not part.startswith(("student.", "ema.", "target.", "critic.", "path."))
                ), f"{frozen}.{key} is in the checkpoint under another name"
            assert parameter.grad is None
            assert not parameter.requires_grad
            assert torch.equal(parameter, before[f"{frozen}.{key}"])
        assert not module.get_submodule(frozen).training
    assert set(checkpoint["teachers"]) == set(module.frozen)


HOOKS: list[Any] = []
"""On networks that stand poisoned."""


def poison(module: DistillationModule, batch: dict[str, Any]) -> None:
    """One sample of the batch is no number, whether a method looks at data or at noise alone."""
    for value in batch.values():
        if torch.is_tensor(value) and value.is_floating_point():
            value[0] = float("nan")
    drawn = module.noise.normal

    def poisoned(like: torch.Tensor) -> torch.Tensor:
        noise = drawn(like)
        noise[0] = float("nan")
        return noise

    module.noise.normal = poisoned  # type: ignore[method-assign]
    if batch.keys() & {"tokens", "codes", "query"}:
        # Whole numbers cannot be NaN: what the trained network says of the first row is.
        parts = (module.get_submodule(name) for name in module._optimization)
        HOOKS.extend(
            getattr(part, "network", part).register_forward_hook(_broken) for part in parts
        )


def _broken(network: torch.nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):  # a named one, the scores before the states
        return type(output)(_broken(network, inputs, output[0]), *output[1:])
    first = torch.zeros(len(output), *[1] * (output.ndim - 1))
    first[0] = float("nan")
    return output + first


def cure(module: DistillationModule) -> None:
    module.noise.__dict__.pop("normal", None)
    while HOOKS:
        HOOKS.pop().remove()


@each_method
def test_a_non_finite_batch_changes_nothing_but_the_count(name: str) -> None:
    class Poisoned(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if pl_module.iteration == 4:
                self.before = state(pl_module)
                poison(pl_module, batch)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            cure(pl_module)
            if pl_module.iteration == 5:
                self.changed = list(differing(self.before, state(pl_module)))

    case, poisoned = CASES[name], Poisoned()
    module = fit(case.make(), case.data(), [poisoned])
    assert poisoned.changed == []
    assert module.non_finite_total == len(module._optimization), "one update of each part"
    assert all(torch.isfinite(value).all() for value in state(module).values())


@each_method
def test_non_finite_batches_in_a_row_stop_the_run(name: str) -> None:
    class Poisoned(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            poison(pl_module, batch)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            cure(pl_module)

    case = CASES[name]
    with pytest.raises(RuntimeError, match="3 updates in a row had a gradient that is not finite"):
        fit(case.make(max_non_finite=3), case.data(), [Poisoned()])


def test_another_teacher_is_refused_on_resume(tmp_path: Path) -> None:
    make = CASES["progressive_distillation"].make
    fit(make(), callbacks=[SaveAt(tmp_path, (4,))])
    other = make()
    other.frozen["teacher"] = "0" * 64
    with pytest.raises(InputError, match="trained with weights of digest"):
        fit(other, ckpt_path=tmp_path / "4.ckpt")


def test_the_configuration_wins_over_the_checkpoint(tmp_path: Path) -> None:
    case = CASES["diffusion_training"]
    fit(case.make(), callbacks=[SaveAt(tmp_path, (4,))])
    module = case.make()
    module._optimization["denoiser"].lr = 0.5
    module._optimization["denoiser"].weight_decay = 0.25

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if pl_module.iteration == 5:
                self.group = dict(trainer.optimizers[0].param_groups[0])

    look = Look()
    fit(module, callbacks=[look], ckpt_path=tmp_path / "4.ckpt")
    assert look.group["weight_decay"] == 0.25
    assert look.group["lr"] == pytest.approx(
        module._optimization["denoiser"].lr_at(4, case.iterations)
    )
