"""Are written codes speech, and of the text? Figures that no loss of Pheme's models holds."""

import torch
from torch import Tensor
from torchaudio.functional import edit_distance

SHORTEST = 2
"""Frames that a phone lasts, or it was not heard."""


def heard_phones(labels: Tensor, silence: int = 0) -> list[int]:
    """Phones in order out of a phone a frame (F,): runs of two frames or more, without silence."""
    phones, counts = torch.unique_consecutive(labels, return_counts=True)
    kept = phones[(counts >= SHORTEST) & (phones != silence)]
    # What stood between two runs of one phone may be gone.
    return [int(phone) for phone in torch.unique_consecutive(kept)]


def phone_errors(heard: list[int], said: list[int]) -> tuple[int, int]:
    """Substitutions, deletions and insertions, and the phones of the truth."""
    once = [phone for place, phone in enumerate(said) if place == 0 or said[place - 1] != phone]
    return int(edit_distance(heard, once)), len(once)


def repeated(codes: Tensor) -> float:
    """Share of codes (F,) that repeat the one before."""
    return float((codes[1:] == codes[:-1]).double().mean()) if len(codes) > 1 else 0.0


def bigram_distance(found: list[Tensor], wanted: list[Tensor], codes: int) -> float:
    """Total variation distance of pairs of neighbours of codes (F,), in [0, 1]."""
    laws = []
    for rows in (found, wanted):
        pairs = torch.cat([row[:-1] * codes + row[1:] for row in rows])
        counts = torch.bincount(pairs, minlength=codes * codes).double()
        laws.append(counts / counts.sum())
    return float((laws[0] - laws[1]).abs().sum() / 2)
