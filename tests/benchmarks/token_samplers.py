"""Law, calls and time of the token samplers: ``python -m tests.benchmarks.token_samplers``.

First with the exact denoiser of an oracle language, where a sampler's error is its own; then with
a network over a large vocabulary, where time goes into calls and draws.
"""

import time

import torch

from kdlight.discrete.denoiser import MaskedDenoiser, OracleDenoiser
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.oracle import HMMLanguage
from kdlight.discrete.samplers import TokenSample, ancestral, first_hitting
from kdlight.metrics.language.oracle_fit import OracleFit
from kdlight.networks.text.token_transformer import TokenTransformer

COUNT = 4000


def law() -> None:
    """The table of the law: exact conditionals, 32 tokens."""
    language = HMMLanguage()
    denoiser = OracleDenoiser(language)
    print("| sampler | steps | calls | NLL | pairs 1 / 2 / 4 apart |\n|---|---|---|---|---|")
    walks = [("ancestral", steps) for steps in (1, 2, 4, 8, 16, 32, 64)]
    for name, steps in [*walks, ("first hitting", language.length)]:
        metric = OracleFit(language)
        start = torch.full((COUNT, language.length), language.vocabulary)
        draws = RowDraws(torch.arange(COUNT), 0)
        if name == "ancestral":
            sample = ancestral(denoiser, start, draws, steps)
        else:
            sample = first_hitting(denoiser, start, draws)
        metric.update(sample.tokens)
        found = {key: float(value) for key, value in metric.compute().items()}
        pairs = " / ".join(f"{found[f'bigram_tv{lag}']:.3f}" for lag in ("", "_2", "_4"))
        calls = float(sample.calls.double().mean())
        print(f"| {name} | {steps} | {calls:.1f} | {found['nll']:.3f} | {pairs} |")
    floors = " / ".join(f"{found[f'bigram_tv{lag}_floor']:.3f}" for lag in ("", "_2", "_4"))
    print(f"| true sentences | | | {found['nll_floor']:.3f} | {floors} |")


def timed(vocabulary: int = 50_000, length: int = 128, rows: int = 4, steps: int = 1024) -> None:
    """Seconds of both samplers over a large vocabulary, the network being the same."""
    torch.manual_seed(0)
    network = TokenTransformer(vocabulary, width=64, depth=2, heads=4)
    denoiser = MaskedDenoiser(network, vocabulary, length).eval()
    start = torch.full((rows, length), vocabulary)

    def walk(name: str) -> tuple[TokenSample, float]:
        draws = RowDraws(torch.arange(rows), 0)
        before = time.process_time()
        if name == "first hitting":
            sample = first_hitting(denoiser, start, draws)
        else:
            sample = ancestral(denoiser, start, draws, steps)
        return sample, time.process_time() - before

    print(f"\n{rows} rows, {length} tokens of {vocabulary:,}; ancestral on {steps} steps")
    for name in ("first hitting", "ancestral"):
        sample, seconds = walk(name)
        print(f"{name}: {float(sample.calls.double().mean()):.0f} calls a row, {seconds:.1f} CPU-s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    law()
    timed()
