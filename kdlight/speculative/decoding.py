"""Writing with a draft: several tokens a call of the target, in exactly the target's law."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlight.discrete.autoregressive import NextTokenModel
from kdlight.discrete.categorical import draw
from kdlight.discrete.draws import RowDraws
from kdlight.errors import InputError
from kdlight.speculative.verification import verify


@dataclass(frozen=True)
class SpeculativeSample:
    """What speculative decoding returns.

    Attributes:
        tokens: (B, L) int64.
        calls: Calls of the target that each row took part in, (B,) int64.
        acceptance_rate: Share of the tried drafted tokens that were kept; those behind a rejection
            were not tried. Over whole blocks, which do not reach the end of the row.
        block_efficiency: Tokens a call of the target gave, over whole blocks.
    """

    tokens: Tensor
    calls: Tensor
    acceptance_rate: float
    block_efficiency: float


@torch.no_grad()
def speculate(
    target: NextTokenModel,
    draft: NextTokenModel,
    prompt: Tensor,
    length: int,
    draws: RowDraws,
    block: int = 4,
) -> SpeculativeSample:
    """Continue prompts to ``length`` tokens (Leviathan et al., arXiv:2211.17192, algorithm 1).

    Rows advance by unlike numbers of tokens; what a row has not written yet is padding on its
    right, which no causal model sees.

    Args:
        target: Whose law the tokens have.
        draft: Proposes them.
        prompt: (B, P) int64; P may be 0.
        length: Tokens of a row in the end, the prompt's among them.
        draws: The rows' random numbers.
        block: Drafted tokens of a block.

    Raises:
        InputError: The two have other vocabularies, or ``block`` is below 1.
    """
    if block < 1:
        raise InputError(f"block: expected at least 1, found {block}.")
    if target.vocabulary != draft.vocabulary:
        raise InputError(
            f"draft: expected the target's vocabulary of {target.vocabulary} tokens, found "
            f"{draft.vocabulary}."
        )
    tokens = pad(prompt, (0, length + block + 1 - prompt.shape[1]))
    rows = torch.arange(len(tokens), device=tokens.device)
    written = torch.full_like(rows, prompt.shape[1])
    calls = torch.zeros_like(rows)
    kept_tokens, tried_tokens, blocks = 0, 0, 0
    while bool((written < length).any()):
        proposed = []
        uniform = draws.uniform(2 * block + 1)
        for ahead in range(block):
            logits = draft(tokens)[rows, written + ahead]
            tokens[rows, written + ahead] = draw(logits, uniform[:, ahead])
            proposed.append(logits)
        places = written[:, None] + torch.arange(block + 1, device=rows.device)
        judged = target(tokens)[rows[:, None], places]
        drafted = tokens.gather(1, places[:, :-1])
        accept, replace = uniform[:, block:-1], uniform[:, -1]
        kept, behind = verify(judged, torch.stack(proposed, dim=1), drafted, accept, replace)
        active = written < length
        whole = written + block < length
        kept_tokens += int(kept[whole].sum())
        tried_tokens += int((kept[whole] + 1).clamp(max=block).sum())
        blocks += int(whole.sum())
        calls += active.long()
        tokens[rows, written + kept] = behind
        # A finished row stays where it is: what it writes behind its end is cut off.
        written = torch.where(active, (written + kept + 1).clamp(max=length), written)
    return SpeculativeSample(
        tokens[:, :length],
        calls,
        kept_tokens / max(1, tried_tokens),
        (kept_tokens + blocks) / max(1, blocks),
    )
