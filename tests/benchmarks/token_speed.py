"""Samplers of tokens and their training against bare loops of the same networks.

``python -m tests.benchmarks.token_speed [--turns N]``; ratios are medians over turns in one
process. A bare loop calls the network as often, draws exactly (float64) and counts nothing.
"""

import argparse
import copy
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from datamodules.text.oracle_language import OracleLanguageDataModule
from kdlight.commands.train import quiet
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.denoiser import MaskedDenoiser
from kdlight.discrete.energy import NeuralEnergy
from kdlight.discrete.energy_sampler import EnergyGenerator
from kdlight.discrete.generator import TokenGenerator
from kdlight.discrete.jumps import JumpGenerator, JumpModel
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.token_flow import TokenCodes
from kdlight.networks.text.energy_transformer import EnergyTransformer
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.networks.text.vector_transformer import VectorTransformer
from kdlight.training.optim import Optimization
from modules.language.discrete.masked_diffusion_training import MaskedDiffusionTraining
from modules.language.next_token.language_training import LanguageTraining
from tests.benchmarks.bare import Trained
from tests.benchmarks.interleave import HEADER, Pairs, take_turns
from tests.benchmarks.training import CHUNK, race_on

V, L, ROWS, WIDTH, DEPTH, HEADS = 1000, 32, 8, 64, 2, 4
STEPS, CANDIDATES = 8, 4


def drawn(logits: Tensor) -> Tensor:
    """Exact draws, one a row of (N, V)."""
    return torch.multinomial(logits.double().softmax(dim=1), 1)[:, 0]


def blank() -> Tensor:
    return torch.full((ROWS, L), V)


def bare_first_hitting(network: nn.Module) -> Tensor:
    tokens, order = blank(), torch.rand(ROWS, L).argsort(dim=1)
    rows = torch.arange(ROWS)
    for place in order.T:
        tokens[rows, place] = drawn(network(tokens)[rows, place])
    return tokens


def bare_ancestral(network: nn.Module) -> Tensor:
    tokens = blank()
    for left in range(STEPS, 0, -1):
        revealed = (tokens == V) & (torch.rand(ROWS, L) * left < 1)
        tokens[revealed] = drawn(network(tokens)[revealed])
    return tokens


def bare_confidence(network: nn.Module) -> Tensor:
    tokens = blank()
    for left in range(STEPS, 0, -1):
        masked = tokens == V
        probs = network(tokens).double().softmax(dim=2)
        candidate = torch.multinomial(probs.flatten(0, 1), 1).reshape(ROWS, L)
        likely = probs.gather(2, candidate[..., None])[..., 0].masked_fill(~masked, -1)
        best = likely.topk(-(-int(masked[0].sum()) // left), dim=1).indices
        tokens.scatter_(1, best, candidate.gather(1, best))
    return tokens


def bare_left_to_right(network: nn.Module) -> Tensor:
    tokens = torch.full((ROWS, 1), V)
    for _ in range(L):
        tokens = torch.cat([tokens, drawn(network(tokens)[:, -1])[:, None]], dim=1)
    return tokens[:, 1:]


def bare_jumps(network: nn.Module, codes: Tensor) -> Tensor:
    vectors = torch.randn(ROWS, L, codes.shape[1])
    known = torch.zeros(ROWS, L, dtype=torch.bool)
    tokens = network(vectors, known).argmax(dim=2)
    half = L // 2
    vectors[:, :half] = codes[tokens[:, :half]].float()
    known[:, :half] = True
    tokens[:, half:] = network(vectors, known)[:, half:].argmax(dim=2)
    return tokens


def bare_energy(network: nn.Module, judge: nn.Module) -> Tensor:
    tokens = blank()
    for left in range(STEPS, 0, -1):
        masked = tokens == V
        probs = network(tokens).double().softmax(dim=2)
        found = torch.multinomial(probs.flatten(0, 1), CANDIDATES, replacement=True)
        found = found.reshape(ROWS, L, CANDIDATES).transpose(1, 2)
        found = torch.where(masked[:, None], found, tokens[:, None])
        energy = judge(found.flatten(0, 1), tokens.repeat_interleave(CANDIDATES, dim=0))
        pick = drawn(-energy.reshape(ROWS, CANDIDATES))
        revealed = masked & (torch.rand(ROWS, L) * left < 1)
        tokens = torch.where(revealed, found[torch.arange(ROWS), pick], tokens)
    return tokens


def samplers(turns: int) -> Iterator[Pairs]:
    """Every sampler beside its bare loop."""
    both, causal = (
        TokenTransformer(V, WIDTH, DEPTH, HEADS, causal=causal).eval() for causal in (False, True)
    )
    jumps = VectorTransformer(8, V, WIDTH, DEPTH, HEADS).eval()
    judge = EnergyTransformer(V, WIDTH, DEPTH, HEADS).eval()
    masked, codes = MaskedDenoiser(both, V, L), TokenCodes(V, 8)
    pairs: list[tuple[str, TokenGenerator, Callable[[], Tensor]]] = [
        ("first hitting", TokenGenerator(masked), lambda: bare_first_hitting(both)),
        (
            f"ancestral, {STEPS} steps",
            TokenGenerator(masked, "ancestral", (STEPS,)),
            lambda: bare_ancestral(both),
        ),
        (
            f"confidence, {STEPS} steps",
            TokenGenerator(masked, "confidence", (STEPS,)),
            lambda: bare_confidence(both),
        ),
        (
            "left to right",
            AutoregressiveGenerator(AutoregressiveModel(causal, V, L)),
            lambda: bare_left_to_right(causal),
        ),
        (
            "two jumps",
            JumpGenerator(JumpModel(jumps, codes, L), (0, L // 2)),
            lambda: bare_jumps(jumps, codes.vectors),
        ),
        (
            f"energy of {CANDIDATES}, {STEPS} steps",
            EnergyGenerator(NeuralEnergy(masked, judge), CANDIDATES, 1.0, (STEPS,)),
            lambda: bare_energy(both, judge),
        ),
    ]
    for name, generator, bare in pairs:
        steps = 2 if name == "two jumps" else 0

        def ours(generator: TokenGenerator = generator, steps: int = steps) -> object:
            return generator(generator.masks(ROWS), seed=0, steps=steps)

        with torch.no_grad():
            yield take_turns(f"{name}: {ROWS} x {L} of {V}", "batch", ours, bare, turns)


def trainings(turns: int) -> Iterator[Pairs]:
    """A training step of both kinds of language model."""
    vocabulary, length, batch = 16, 16, 128
    language = HMMLanguage(8, vocabulary, length)
    optimizer = Optimization(lr=3e-3, beta2=0.98, warmup=100, decay="cosine")
    steps = (turns + 1) * CHUNK
    stream = language.draw(20_000, torch.Generator().manual_seed(0))

    def data() -> OracleLanguageDataModule:
        return OracleLanguageDataModule(language, 20_000, 10, batch, steps)

    def network(causal: bool) -> TokenTransformer:
        return TokenTransformer(vocabulary, 64, 2, 4, causal=causal)

    both, causal = network(False), network(True)
    masked = Trained(copy.deepcopy(both), optimizer, 200.0, steps)
    following = Trained(copy.deepcopy(causal), optimizer, 200.0, steps)

    def rows() -> Tensor:
        return stream[torch.randint(len(stream), (batch,))]

    def masked_step() -> None:
        tokens = rows()
        count = torch.randint(length, (batch,)) + 1
        hidden = torch.rand(batch, length).argsort(dim=1).argsort(dim=1) < count[:, None]
        logits = masked.network(tokens.masked_fill(hidden, vocabulary))
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        masked.update(((nll * hidden).sum(dim=1) / count).mean())

    def following_step() -> None:
        tokens = rows()
        begun = nn.functional.pad(tokens[:, :-1], (1, 0), value=vocabulary)
        logits = following.network(begun)
        following.update(nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()))

    denoiser = MaskedDenoiser(both, vocabulary, length)
    model = AutoregressiveModel(causal, vocabulary, length)
    yield race_on(
        "masked diffusion, batch 128",
        MaskedDiffusionTraining(denoiser, optimizer, steps),
        data(),
        masked_step,
    )
    yield race_on(
        "language training, batch 128",
        LanguageTraining(model, optimizer, steps),
        data(),
        following_step,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.token_speed")
    parser.add_argument("--turns", type=int, default=10, help="Turns of each in a comparison.")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    quiet()
    print(HEADER, flush=True)
    for pairs in itertools.chain(samplers(turns), trainings(turns)):
        print(pairs.row(), flush=True)


if __name__ == "__main__":
    main()
