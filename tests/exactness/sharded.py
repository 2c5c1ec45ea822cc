"""What each of two processes runs of FSDP2: ``python -m tests.exactness.sharded FOLDER``.

FOLDER holds ``one/NAME/7.ckpt`` of every case, by one process; an accumulation is open there.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy

from kdlight.core.whole import shards
from kdlight.discrete.autoregressive import AutoregressiveModel
from kdlight.losses.language.pointwise import ForwardKL
from kdlight.networks.text.pretrained import CausalLM
from kdlight.training.optim import Optimization
from kdlight.training.reduction import PartwiseDDP
from kdlight.training.sharding import ShardedStrategy
from modules.language.next_token.logit_distillation import LogitDistillation
from tests.exactness.cases import CASES
from tests.exactness.harness import BATCH, Case, SaveAt, fit
from tests.exactness.language_cases import LENGTH, V, ragged

# Before the end of the shortest case.
STOP, ACCUMULATE = 7, 3


def tied(**kwargs: Any) -> LogitDistillation:
    """Two GPT-2, whose embeddings are their heads."""

    def model(width: int) -> AutoregressiveModel:
        config = {"model_type": "gpt2", "vocab_size": V + 1, "n_positions": LENGTH}
        config |= {"n_embd": width, "n_layer": 2, "n_head": 2}
        config |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        with torch.random.fork_rng():
            torch.manual_seed(width)
            return AutoregressiveModel(CausalLM(config, V), V, LENGTH)

    optimizer = Optimization(lr=3e-3, decay="cosine")
    return LogitDistillation(model(16), model(8), ForwardKL(), optimizer, 20, **kwargs)


NAMES = (
    "consistency_distillation",
    "dmd2",
    "dmd2_lora",
    "latent_consistency",
    "sida",
    "dimensional_correlations",
    "on_policy_distillation",
)
SHARDED = {name: CASES[name] for name in NAMES} | {"tied": Case(tied, 20, data_module=ragged)}


class Held(L.Callback):
    """Bytes of weights and moments that this rank holds between two iterations."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert shards(pl_module)
        pl_module.state_dict()  # a network keeps what it gathered last until it is asked for
        weights = [getattr(p, "_local_tensor", p) for p in pl_module.parameters()]
        self.found = {
            "held": sum(weight.numel() for weight in weights),
            "whole": sum(p.numel() for p in pl_module.parameters()),
        }


def main(folder: Path) -> None:
    """Train sharded, continue one process's checkpoint sharded, and a sharded one under DDP."""
    ranks = int(os.environ["WORLD_SIZE"])
    for name, case in SHARDED.items():
        own, last, held = folder / "sharded" / name, case.iterations, Held()
        of_one = folder / "one" / name / f"{STOP}.ckpt"
        ways: list[tuple[Callable[..., Strategy], list[L.Callback], Path | None]] = [
            (ShardedStrategy, [SaveAt(own, (STOP, last)), held], None),
            (ShardedStrategy, [SaveAt(own / "of_one", (last,))], of_one),
            (PartwiseDDP, [SaveAt(own / "under_ddp", (last,))], own / f"{STOP}.ckpt"),
        ]
        for strategy, callbacks, checkpoint in ways:
            fit(
                case.make(accumulate=ACCUMULATE),
                case.data(BATCH // ranks),
                callbacks,
                checkpoint,
                devices=ranks,
                strategy=strategy(process_group_backend="gloo"),
            )
        (own / f"held_{os.environ['RANK']}.json").write_text(json.dumps(held.found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
