"""Writing with a draft, row by row, every token computed once: what serving a model does."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlight.discrete.autoregressive import AutoregressiveGenerator, NextTokenModel
from kdlight.discrete.draws import RowDraws
from kdlight.discrete.samplers import TokenSample
from kdlight.errors import InputError
from kdlight.speculative.drafters import Drafter, law
from kdlight.speculative.sessions import session_of


@dataclass
class Account:
    """What writing took, over all rows so far.

    Attributes:
        tokens: Tokens written.
        calls: Calls of the target.
        kept: Drafted tokens that were kept.
        tried: Places for which drafted tokens were tried.
        seconds: Seconds of writing.
    """

    tokens: int = 0
    calls: int = 0
    kept: int = 0
    tried: int = 0
    seconds: float = 0.0

    def sentence(self) -> str:
        """The account, for who waits."""
        return (
            f"{self.tokens} tokens in {self.seconds:.2f} s, "
            f"{self.tokens / max(self.seconds, 1e-9):.1f} a second; {self.calls} calls of the "
            f"target, {self.tokens / max(1, self.calls):.2f} tokens each; "
            f"{self.kept / max(1, self.tried):.3f} of the drafted places kept"
        )


class DraftedGenerator(AutoregressiveGenerator):
    """Writes what its model writes without a draft, in fewer calls of it.

    The law of every row is the model's at that temperature, whatever the drafter
    (:mod:`kdlight.speculative.drafts`). With a drafter that draws nothing itself, the rows are
    those of :class:`~kdlight.discrete.autoregressive.AutoregressiveGenerator` from the same seed
    (at temperature 1, up to the rounding of the network).

    Args:
        model: The target.
        drafter: Proposes continuations.
        temperature: The logits are divided by it; 0 takes the likeliest token.
        end: The token that ends a text: a row that has it is filled up with it.

    Raises:
        InputError: ``temperature`` is below 0.
    """

    def __init__(
        self,
        model: NextTokenModel,
        drafter: Drafter,
        temperature: float = 1.0,
        end: int | None = None,
    ) -> None:
        super().__init__(model)  # type: ignore[arg-type]
        if not temperature >= 0:
            raise InputError(f"temperature: expected at least 0, found {temperature}.")
        self.drafter, self.temperature, self.end = drafter, temperature, end
        self.account = Account()

    @torch.no_grad()
    def forward(self, start: Tensor, seed: int, first: int = 0, steps: int = 0) -> TokenSample:
        """Fill the masks of ``start`` (B, L), which stand behind all that is given."""
        rows = [self._row(row, seed, first + number) for number, row in enumerate(start)]
        tokens, calls, revealed = zip(*rows, strict=True)
        return TokenSample(
            torch.stack(tokens), torch.tensor(calls, device=start.device), torch.stack(revealed)
        )

    def _row(self, start: Tensor, seed: int, number: int) -> tuple[Tensor, int, Tensor]:
        """One row: its tokens (L,), the calls it took, and which call revealed each (L,)."""
        began = time.perf_counter()
        given = (start != self.vocabulary).tolist()
        length, known = len(given), sum(given)
        if not all(given[:known]):
            raise InputError("prompt: expected masks behind all that is given, found others.")
        row: list[int] = start[:known].tolist()
        draws = RowDraws(torch.tensor([number]), seed)
        # Numbers belong to places: where a draft is not kept, its numbers decided nothing.
        own, accept, drafted = (draws.uniform(length)[0].to(start.device) for _ in range(3))
        assert isinstance(self.denoiser, NextTokenModel)
        session, beginning = session_of(self.denoiser)
        self.drafter.begin()
        unread, calls, revealed = [beginning, *row], 0, [0] * known
        while len(row) < length:
            at = len(row)
            # The target itself adds a token, so one place is not drafted for.
            draft = self.drafter.propose(row, length - at - 1, drafted[at:])
            ahead = len(unread)
            parents = [*range(-1, ahead - 1), *(ahead + each for each in draft.parents)]
            logits = session.read([*unread, *draft.tokens], parents)[ahead - 1 :]
            verdict = draft.judge(law(logits, self.temperature), own[at:], accept[at:])
            whole = session.count - len(draft.tokens)
            session.keep([*range(whole), *(whole + place for place in verdict.path)])
            calls += 1
            new = [*(draft.tokens[place] for place in verdict.path), verdict.behind]
            self.account.kept += len(verdict.path)
            self.account.tried += verdict.tried
            unread = new[-1:]
            if self.end in new:
                new = new[: new.index(self.end) + 1]
            row += new
            revealed += [calls] * len(new)
            if new[-1] == self.end:
                break
        self.account.tokens += len(row) - known
        self.account.calls += calls
        self.account.seconds += time.perf_counter() - began
        left = length - len(row)
        filled = torch.tensor(row + [self.end or 0] * left, device=start.device)
        return filled, calls, torch.tensor(revealed + [calls] * left, device=start.device)
