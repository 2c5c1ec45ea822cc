"""Languages whose probabilities are known: hidden Markov models."""

import torch
from torch import Tensor, nn

from kdlight.core.ranges import NonNegativeInt, PositiveFloat, PositiveInt
from kdlight.core.spec import Recorded


class HMMLanguage(Recorded, nn.Module):
    """Sequences of a hidden Markov chain with sparse random rows, started in its stationary law.

    What the Gaussian mixture is for continuous diffusion: the exact likelihood, the exact
    conditionals at masked positions (forward-backward, a mask being a missing emission) and exact
    samples, so that a model, a sampler or a distilled student can be held against the truth.

    Args:
        states: Hidden states.
        vocabulary: Tokens V.
        length: Tokens of a sequence L.
        seed: Seed of the two tables.
        transition: Concentration of the Dirichlet law of the rows of the transition table; small
            rows are nearly one-hot.
        emission: The same of the emission table.

    Raises:
        InputError: A size is not positive.
    """

    initial: Tensor
    transitions: Tensor
    emissions: Tensor

    def __init__(
        self,
        states: PositiveInt = 8,
        vocabulary: PositiveInt = 16,
        length: PositiveInt = 32,
        seed: NonNegativeInt = 0,
        transition: PositiveFloat = 0.15,
        emission: PositiveFloat = 0.08,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("transitions", _dirichlet(states, states, transition, generator))
        self.register_buffer("emissions", _dirichlet(states, vocabulary, emission, generator))
        self.register_buffer("initial", _stationary(self.transitions))

    @property
    def mask(self) -> int:
        """The token that stands for a mask: the one behind the vocabulary."""
        return self.vocabulary

    def _likelihoods(self, tokens: Tensor) -> Tensor:
        """p(token | state), (B, L, S); 1 for a mask."""
        table = torch.cat([self.emissions.T, torch.ones_like(self.emissions[:, :1]).T])
        return table[tokens]

    def _forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised p(state_l | tokens up to l), (B, L, S), and log of their norms, (B, L)."""
        likelihood = self._likelihoods(tokens)
        belief = self.initial.expand(len(tokens), -1)
        beliefs, norms = [], []
        for place in range(tokens.shape[1]):
            joint = (belief if place == 0 else belief @ self.transitions) * likelihood[:, place]
            norm = joint.sum(dim=1, keepdim=True)
            belief = joint / norm
            beliefs.append(belief)
            norms.append(norm[:, 0].log())
        if not beliefs:
            return likelihood, likelihood[..., 0]
        return torch.stack(beliefs, dim=1), torch.stack(norms, dim=1)

    def log_prob_steps(self, tokens: Tensor) -> Tensor:
        """Log p(token_l | tokens before it), (B, L) float64, of tokens (B, L); 0 at a mask."""
        return self._forward(tokens)[1]

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log p of the visible tokens, (B,) float64, of tokens (B, L)."""
        return self.log_prob_steps(tokens).sum(dim=1)

    def predictions(self, tokens: Tensor) -> Tensor:
        """p(x_t | tokens before t) for t = 0 to T, (B, T + 1, V) float64, of tokens (B, T)."""
        beliefs, _ = self._forward(tokens)
        first = self.initial.expand(len(tokens), 1, -1)
        return torch.cat([first, beliefs @ self.transitions], dim=1) @ self.emissions

    def conditionals(self, tokens: Tensor) -> Tensor:
        """p(x_l | visible tokens), (B, L, V) float64; one-hot where a token is visible.

        Args:
            tokens: (B, L) int64 with masks.
        """
        stacked = self.state_posteriors(tokens) @ self.emissions
        visible = nn.functional.one_hot(tokens.clamp(max=self.vocabulary - 1), self.vocabulary)
        masked = torch.eq(tokens, self.mask)[..., None]
        return torch.where(masked, stacked, visible.to(stacked.dtype))

    def state_posteriors(self, tokens: Tensor) -> Tensor:
        """p(state_l | visible tokens), (B, L, S) float64: forward-backward.

        Args:
            tokens: (B, L) int64 with masks.
        """
        likelihood = self._likelihoods(tokens)
        beliefs, _ = self._forward(tokens)
        behind = torch.ones_like(beliefs[:, 0])
        found = []
        for place in reversed(range(tokens.shape[1])):
            posterior = beliefs[:, place] * behind
            found.append(posterior / posterior.sum(dim=1, keepdim=True))
            behind = (behind * likelihood[:, place]) @ self.transitions.T
            behind = behind / behind.sum(dim=1, keepdim=True)
        return torch.stack(found[::-1], dim=1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Exact samples, (count, L) int64."""
        return self.draw_with_states(count, generator)[0]

    def draw_with_states(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Exact samples and the hidden states that they came from, (count, L) int64 both."""
        state = torch.multinomial(self.initial, count, replacement=True, generator=generator)
        tokens, states = [], []
        for place in range(self.length):
            if place:
                rows = self.transitions[state]
                state = torch.multinomial(rows, 1, generator=generator)[:, 0]
            emitted = torch.multinomial(self.emissions[state], 1, generator=generator)
            tokens.append(emitted[:, 0])
            states.append(state)
        return torch.stack(tokens, dim=1), torch.stack(states, dim=1)

    def bigram(self, lag: int = 1) -> Tensor:
        """p(x_l, x_(l + lag)), (V, V) float64."""
        step = torch.linalg.matrix_power(self.transitions, lag)
        joint: Tensor = self.emissions.T @ (self.initial[:, None] * step) @ self.emissions
        return joint

    def marginal_entropy(self) -> Tensor:
        """Entropy of one token in nats: what a model that sees no neighbour cannot go below."""
        unigram = self.initial @ self.emissions
        return -torch.xlogy(unigram, unigram).sum()


def _dirichlet(rows: int, columns: int, concentration: float, generator: torch.Generator) -> Tensor:
    """Rows of a symmetric Dirichlet law, (rows, columns) float64."""
    shape = torch.full((rows, columns), concentration, dtype=torch.float64)
    gammas = torch._standard_gamma(shape, generator=generator) + 1e-12
    return gammas / gammas.sum(dim=1, keepdim=True)


def _stationary(transitions: Tensor) -> Tensor:
    """The law that one step leaves as it is, (S,) float64.

    By elimination of one state after the other (Grassmann, Taksar and Heyman 1985): no difference
    is taken, and the bits do not depend on where a linear algebra library finds its memory.
    """
    rates = transitions.clone()
    for last in range(len(rates) - 1, 0, -1):
        rates[:last, last] /= rates[last, :last].sum()
        rates[:last, :last] += rates[:last, last, None] * rates[last, None, :last]
    law = torch.ones_like(rates[0])
    for state in range(1, len(rates)):
        law[state] = (law[:state] * rates[:state, state]).sum()
    found: Tensor = law / law.sum()
    return found
