"""What did the tokens learn? Phones and speakers in the codes of each level, on held-out data.

Every figure is of data that took no part in fitting it. Plug-in mutual information grows with the
number of codes whatever they mean; cross-validated, codes that mean nothing score nothing. None of
it asks a teacher: mutual information with the teacher's own units rises with the weight of the
guidance even where phones get lost, so it is no ground to choose a weight by.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from kdlight.errors import InputError

# How many frames the prior weighs in a code's row; infinity says that the code means nothing.
PRIOR_WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, math.inf)
# Frames without a label.
UNLABELLED = -1


class TokenInformation(NamedTuple):
    """What codes say about labels that were not seen, in bits a frame.

    Attributes:
        information: Bits that the code saves; below 0 if it misleads.
        entropy: Bits of a label for who knows only how frequent each is.
        share: ``information / entropy``, at most 1; NaN if the labels are constant.
    """

    information: float
    entropy: float
    share: float


def held_out_folds(groups: Tensor, folds: int) -> Tensor:
    """Folds (N,) that never split a group, such as a speaker; (N,) int64 ids of groups.

    Raises:
        InputError: There are fewer groups than folds, or fewer than 3 folds.
    """
    ids, index = torch.unique(groups, return_inverse=True)
    if folds < 3 or len(ids) < folds:
        raise InputError(
            f"folds: expected 3 to {len(ids)}, the number of groups to hold out, found {folds}."
        )
    fold: Tensor = index % folds
    return fold


def folds_within(labels: Tensor, items: Tensor, folds: int) -> Tensor:
    """Folds (N,) that spread the items of each label, such as a speaker's utterances, evenly.

    Args:
        labels: (N,) int64.
        items: Ids of what is not split, (N,) int64; one label each.
        folds: How many.

    Raises:
        InputError: A label has fewer than two items, so that none would be left to learn it from.
    """
    pairs, index = torch.unique(torch.stack([labels, items]), dim=1, return_inverse=True)
    kinds, counts = torch.unique(pairs[0], return_counts=True)
    if len(kinds) and int(counts.min()) < 2:
        raise InputError(
            f"label {int(kinds[counts.argmin()])}: expected at least 2 utterances, found 1."
        )
    # unique() sorts by label and then by item, so a label's items are neighbours.
    first = counts.cumsum(0) - counts
    rank = torch.arange(pairs.shape[1], device=pairs.device) - first.repeat_interleave(counts)
    fold: Tensor = rank[index] % folds
    return fold


def token_information(codes: Tensor, labels: Tensor, fold: Tensor) -> TokenInformation:
    """Cross-validated information of codes about labels, ``1 - CE(label | code) / CE(label)``.

    For each fold, ``p(label | code)`` is counted in the others, with a prior that is the labels'
    frequency; the weight of the prior is chosen on the next fold, counted without it. CE is the
    cross-entropy on the fold. The usual figure of phone information, I(phone; code) / H(phone)
    (HuBERT, arXiv:2106.07447, section IV-C's PNMI), is the same without held-out data.

    Args:
        codes: (N,) int64, 0 and up.
        labels: (N,) int64, 0 and up.
        fold: (N,) int64, at least 3 different ones.

    Raises:
        InputError: Shapes differ, a value is negative, or there are fewer than 3 folds.
    """
    _check_rows(codes, labels, fold)
    if codes.is_floating_point() or codes.ndim != 1 or int(codes.min()) < 0:
        raise InputError(f"codes: expected whole numbers (N,), found {codes.dtype}.")
    n_folds, n_labels = int(fold.max()) + 1, int(labels.max()) + 1
    _, codes = torch.unique(codes, return_inverse=True)
    n_codes = int(codes.max()) + 1
    cells = (fold * n_codes + codes) * n_labels + labels
    size = n_folds * n_codes * n_labels
    counts = torch.bincount(cells, minlength=size).double().view(n_folds, n_codes, n_labels)
    present = [k for k in range(n_folds) if counts[k].sum() > 0]
    if len(present) < 3:
        raise InputError(f"fold: expected at least 3 different ones, found {len(present)}.")
    counts = counts[present]
    total = counts.sum(dim=0)
    with_code, without = 0.0, 0.0
    for k, held in enumerate(counts):
        following = counts[(k + 1) % len(counts)]
        inner = total - held - following
        best = min(PRIOR_WEIGHTS, key=lambda weight: _bits(inner, following, weight))
        with_code += _bits(total - held, held, best)
        without += _bits(total - held, held, math.inf)
    frames = len(codes)
    information, entropy = (without - with_code) / frames, without / frames
    constant = n_labels == 1 or len(torch.unique(labels)) == 1
    return TokenInformation(information, entropy, math.nan if constant else information / entropy)


def _bits(seen: Tensor, held: Tensor, weight: float) -> float:
    """Bits of the held-out table (K, P) under the counts of another, smoothed with its margin."""
    # Half a frame for each label: one that was never seen costs something finite.
    frequency = seen.sum(dim=0) + 0.5
    prior = frequency / frequency.sum()
    if math.isinf(weight):
        return -float((held.sum(dim=0) * prior.log2()).sum())
    rows = (seen + weight * prior) / (seen.sum(dim=1, keepdim=True) + weight)
    return -float((held * rows.log2()).sum())


class Probe(NamedTuple):
    """How well a linear classifier reads labels from held-out rows.

    Attributes:
        accuracy: Share of rows that are right, 0 to 1.
        chance: The same for who always says the label that is most frequent in training.
    """

    accuracy: float
    chance: float


def one_hot_rows(codes: Tensor, codebook_size: int) -> Any:
    """Codes (N, n) of n levels as sparse rows (N, n * codebook_size) of zeros and n ones."""
    rows, levels = codes.shape
    columns = codes.cpu().numpy() + codebook_size * np.arange(levels)
    starts = np.arange(0, rows * levels + 1, levels)
    shape = (rows, levels * codebook_size)
    return sparse.csr_matrix((np.ones(rows * levels), columns.ravel(), starts), shape=shape)


def linear_probe(
    rows: Any, labels: Tensor, fold: Tensor, penalty: float = 1.0, most: int = 20_000
) -> Probe:
    """Accuracy of multinomial logistic regression, cross-validated (scikit-learn).

    Args:
        rows: Features (N, D): a tensor, which is standardised, or sparse rows of
            :func:`one_hot_rows`, which are not.
        labels: (N,) int64, 0 and up.
        fold: (N,) int64; see :func:`held_out_folds`.
        penalty: Weight of half the squared norm, beside the sum of the losses.
        most: Rows at most to fit on in a fold, evenly spread; all are tested.

    Raises:
        InputError: Shapes differ, a value is negative, or there is only one fold.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _check_rows(rows, labels, fold)
    truth, part = labels.cpu().numpy(), fold.cpu().numpy()
    if len(np.unique(part)) < 2:
        raise InputError("fold: expected at least 2 different ones, found 1.")
    matrix = rows.detach().cpu().double().numpy() if isinstance(rows, Tensor) else rows
    right, guessed = 0, 0
    for k in np.unique(part):
        test, train = np.flatnonzero(part == k), np.flatnonzero(part != k)
        frequent = np.bincount(truth[train]).argmax()
        guessed += int((truth[test] == frequent).sum())
        train = train[np.linspace(0, len(train) - 1, min(most, len(train))).astype(int)]
        seen, held = matrix[train], matrix[test]
        if isinstance(rows, Tensor):
            mean, spread = seen.mean(axis=0), seen.std(axis=0)
            seen, held = ((side - mean) / np.where(spread > 0, spread, 1) for side in (seen, held))
        if len(np.unique(truth[train])) == 1:
            right += int((truth[test] == truth[train[0]]).sum())
            continue
        model = LogisticRegression(C=1 / penalty, max_iter=200)
        with warnings.catch_warnings():
            # Where it stops after 200 steps is as good a probe, and the same for all.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(seen, truth[train])
        right += int((model.predict(held) == truth[test]).sum())
    return Probe(right / len(truth), guessed / len(truth))


def _check_rows(rows: Any, labels: Tensor, fold: Tensor) -> None:
    count = rows.shape[0]
    if count == 0 or labels.shape != (count,) or fold.shape != (count,):
        raise InputError(
            f"rows, labels and fold: expected N of each, found {count}, "
            f"{tuple(labels.shape)} and {tuple(fold.shape)}."
        )
    if int(labels.min()) < 0 or int(fold.min()) < 0:
        raise InputError("labels and fold: expected 0 and up, found a negative one.")
