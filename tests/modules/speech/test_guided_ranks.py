"""Two processes train a guided codec as one does on the joint batch, over one feature cache."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.exactness.harness import differing, fit, state
from tests.modules.speech.guided_cases import TinyTalk, codec_teacher, codec_to_codec, guided


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of both methods after two real processes trained them together."""
    folder = tmp_path_factory.mktemp("ranks")
    codec_teacher(folder)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*launch, "-m", "tests.modules.speech.guided_cases", str(folder)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISTRIBUTED_DEBUG": "OFF"},
        timeout=300,
    )
    return folder


@pytest.mark.parametrize("name", ["guided", "c2c"])
def test_two_ranks_equal_one_at_the_joint_batch(name: str, two_ranks: Path) -> None:
    module: Any = guided() if name == "guided" else codec_to_codec(two_ranks)
    if name == "guided":
        module = guided(cache=two_ranks / "own")
    one = state(fit(module, TinyTalk(4)))
    first, second = (torch.load(two_ranks / f"{name}_{rank}.pt") for rank in (0, 1))
    assert not list(differing(first, second)), "ranks drifted apart"
    for key in one:
        # Two half sums in another order: equal to rounding, not to the bit.
        torch.testing.assert_close(one[key], first[key], rtol=2e-4, atol=2e-5, msg=key)


def test_ranks_fill_one_cache(two_ranks: Path) -> None:
    files = {path.name for path in (two_ranks / "cache").rglob("*.safetensors")}
    data = TinyTalk()
    texts = {utterance.transcript for utterance in data.training_utterances()}
    assert len(files) == len(data.training_utterances()) + len(texts)
    assert not list((two_ranks / "cache").rglob(".*"))
