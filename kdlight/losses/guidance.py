"""Losses that pull the frames of a codec towards the features of a teacher.

Every loss takes a student and a teacher as (B, F, D), frames of equal width, and a mask (B, F) of
the frames that count (all, if None). Teacher features come without gradient; none is asked for
here. A batch whose mask is empty has a loss of zero, so that a batch of silent or padded frames
never turns into a NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlight.core.ranks import joint_batch, joint_sum
from kdlight.errors import InputError

# The smallest norm that a cosine divides by: a frame of zeros has the cosine 0, not NaN.
EPS = 1e-8


def check_features(name: str, features: Tensor) -> None:
    """Refuse all but (B, F, D).

    A stray dimension does not crash a cosine, it moves it: with (B, 1, F, D) the "axis of time" of
    a public release is the one of size 1, every cosine is +1 or -1, and nothing is learnt.

    Raises:
        InputError: The tensor has another number of dimensions.
    """
    if features.ndim != 3:
        raise InputError(
            f"{name} features: expected (batch, frames, width), found {tuple(features.shape)}."
        )


def _checked(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """The mask (B, F), bool, once shapes agree."""
    check_features("student", student)
    check_features("teacher", teacher)
    if student.shape != teacher.shape:
        raise InputError(
            f"teacher features: expected {tuple(student.shape)} as the student's, "
            f"found {tuple(teacher.shape)}."
        )
    return _mask(student, mask)


def _mask(student: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones(student.shape[:2], dtype=torch.bool, device=student.device)
    if mask.shape != student.shape[:2]:
        raise InputError(
            f"mask: expected {tuple(student.shape[:2])} (batch, frames), found {tuple(mask.shape)}."
        )
    return mask.bool()


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask``; zero, with a gradient of zero, if nowhere.

    Ranks divide by the mean of their numbers of values, so that the mean over ranks is the mean
    over the joint batch.
    """
    number = mask.sum().to(values.dtype)
    joint = joint_sum(torch.stack([number, torch.ones_like(number)]))
    total = torch.where(mask, values, torch.zeros_like(values)).sum()
    return total / (joint[0].clamp(min=1) / joint[1])


def _frames(features: Tensor, mask: Tensor) -> Tensor:
    """``features`` with zeros where the mask is off, whatever stood there, a NaN included."""
    return torch.where(mask[..., None], features, torch.zeros_like(features))


def d_axis_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Distillation along the time course of each dimension (SpeechTokenizer, arXiv:2308.16692).

    ``-1/D sum_d log sigmoid(cos(student[:, d], teacher[:, d]))``, section 3.2, the cosine over the
    frames that count. It ignores the scale of every dimension, so a teacher whose dimensions
    differ by orders of magnitude needs no normalisation. DM-Codec (arXiv:2410.15017) uses it with
    the states of a language model as well.

    Args:
        student: (B, F, D).
        teacher: (B, F, D).
        mask: Frames that count, (B, F). An utterance with none is left out.

    Returns:
        (), between ``log(1 + e^-1) = 0.313`` (every course parallel) and ``log(1 + e) = 1.313``.

    Raises:
        InputError: A tensor is not 3-D, or shapes differ.
    """
    mask = _checked(student, teacher, mask)
    cosine = F.cosine_similarity(_frames(student, mask), _frames(teacher, mask), dim=1, eps=EPS)
    return mean_where(-F.logsigmoid(cosine).mean(dim=1), mask.any(dim=1))


def t_axis_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, l1_weight: float = 0.0
) -> Tensor:
    """Distillation of each frame's vector: ``-1/F sum_t log sigmoid(cos(student[t], teacher[t]))``.

    The T-axis form that SpeechTokenizer (arXiv:2308.16692) compares its loss with and that
    FuseCodec (arXiv:2509.11425) takes for features that are constant in time, where
    :func:`d_axis_loss` sees only a mean. DistilHuBERT (arXiv:2110.01900), from which the form
    comes, adds the mean absolute difference: ``l1_weight`` 1 gives it, and the range and the
    invariance to scale are lost.

    Args:
        student: (B, F, D).
        teacher: (B, F, D).
        mask: Frames that count, (B, F).
        l1_weight: Weight of the mean absolute difference.

    Returns:
        (); with ``l1_weight`` 0 between 0.313 and 1.313.

    Raises:
        InputError: A tensor is not 3-D, or shapes differ.
    """
    mask = _checked(student, teacher, mask)
    student, teacher = _frames(student, mask), _frames(teacher, mask)
    loss = mean_where(-F.logsigmoid(F.cosine_similarity(student, teacher, dim=-1, eps=EPS)), mask)
    if l1_weight:
        loss = loss + l1_weight * mean_where((student - teacher).abs().mean(dim=-1), mask)
    return loss


def cosine_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1 - cos`` of each frame, averaged (Mimi, arXiv:2410.00037, section 3.3.2).

    Its gradient does not fade as the cosine nears 1, unlike that of the log-sigmoid forms.

    Args:
        student: (B, F, D).
        teacher: (B, F, D).
        mask: Frames that count, (B, F).

    Returns:
        (), 0 to 2.

    Raises:
        InputError: A tensor is not 3-D, or shapes differ.
    """
    mask = _checked(student, teacher, mask)
    student, teacher = _frames(student, mask), _frames(teacher, mask)
    return mean_where(1 - F.cosine_similarity(student, teacher, dim=-1, eps=EPS), mask)


def mse_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference over frames and dimensions; arguments as :func:`cosine_loss`."""
    mask = _checked(student, teacher, mask)
    difference = _frames(student, mask) - _frames(teacher, mask)
    return mean_where(difference.square().mean(dim=-1), mask)


def pseudo_label_loss(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy against units of the teacher (HuBERT's targets, arXiv:2106.07447).

    Args:
        logits: Head of the student, (B, F, K).
        labels: Units, such as the teacher's k-means clusters, (B, F), 0 to K - 1; what stands in
            masked frames does not matter.
        mask: Frames that count, (B, F).

    Returns:
        (), at least 0; ``log K`` for logits that say nothing.

    Raises:
        InputError: ``logits`` is not 3-D, shapes differ, or a label is out of range.
    """
    check_features("student", logits)
    mask = _mask(logits, mask)
    if labels.shape != mask.shape:
        raise InputError(
            f"labels: expected {tuple(mask.shape)} (batch, frames), found {tuple(labels.shape)}."
        )
    labels = torch.where(mask, labels, torch.zeros_like(labels)).long()
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[-1]:
        raise InputError(
            f"labels: expected 0 to {logits.shape[-1] - 1}, "
            f"found {int(labels.min())} to {int(labels.max())}."
        )
    losses = F.cross_entropy(_frames(logits, mask).transpose(1, 2), labels, reduction="none")
    return mean_where(losses, mask)


def masked_mean(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the frames that count: (B, F, D) -> (B, D); zero where none does."""
    check_features("pooled", features)
    mask = _mask(features, mask)
    return _frames(features, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def global_contrastive_loss(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, temperature: float = 0.1
) -> Tensor:
    """InfoNCE of utterances: each student's mean finds its own teacher's among the batch.

    Both directions averaged, as CLIP (arXiv:2103.00020), over the joint batch of all ranks. Where
    :func:`d_axis_loss` on pooled features asks for the same vector in every frame, this asks only
    that utterances be told apart.

    Args:
        student: (B, F, D).
        teacher: (B, F, D); a global vector is one that is broadcast to all frames.
        mask: Frames that count, (B, F). An utterance with none is left out.
        temperature: Divides the cosines.

    Returns:
        (); ``log B`` if all utterances look alike, and 0 for a single one.

    Raises:
        InputError: A tensor is not 3-D, shapes differ, or the temperature is not positive.
    """
    mask = _checked(student, teacher, mask)
    _check_temperature(temperature)
    least = torch.promote_types(student.dtype, torch.float32)
    with torch.autocast(student.device.type, enabled=False):
        some = joint_batch(mask.any(dim=1).to(least)) > 0
        left, right = (
            joint_batch(F.normalize(masked_mean(each.to(least), mask), dim=-1, eps=EPS))
            for each in (student, teacher)
        )
        return _both_ways(left[None] @ right.T[None] / temperature, some[None])


def windowed_contrastive_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    window: int = 8,
    temperature: float = 0.1,
) -> Tensor:
    """InfoNCE of frames: each frame finds its own teacher frame among its neighbours.

    Both directions averaged. The negatives of frame t are the frames t' of the same utterance with
    ``0 < |t - t'| <= window``: near ones, so that the speaker and the channel, which they share,
    cannot tell them apart. Frames with equal teacher vectors (one word over many frames) are
    negatives of each other all the same: widen the window until it spans several words.

    Args:
        student: (B, F, D).
        teacher: (B, F, D).
        mask: Frames that count, as anchors and as negatives, (B, F).
        window: Neighbours on each side, at least 1.
        temperature: Divides the cosines.

    Returns:
        (); about ``log(2 window + 1)`` if all frames look alike.

    Raises:
        InputError: A tensor is not 3-D, shapes differ, or a setting is not positive.
    """
    mask = _checked(student, teacher, mask)
    _check_temperature(temperature)
    if window < 1:
        raise InputError(f"window: expected at least 1 frame, found {window}.")
    left = F.normalize(_frames(student, mask), dim=-1, eps=EPS)
    right = F.normalize(_frames(teacher, mask), dim=-1, eps=EPS)
    time = torch.arange(student.shape[1], device=student.device)
    near = (time[:, None] - time[None]).abs() <= window
    return _both_ways(left @ right.transpose(1, 2) / temperature, mask, near)


def _both_ways(scores: Tensor, some: Tensor, near: Tensor | None = None) -> Tensor:
    """Cross-entropy of the diagonal of (B, N, N), over rows and over columns of ``some`` (B, N)."""
    allowed = some[:, :, None] & some[:, None, :]
    if near is not None:
        allowed = allowed & near
    # The diagonal stays, or the softmax of a row that does not count would be 0 / 0.
    allowed = allowed | torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(~allowed, -torch.inf)
    own = scores.diagonal(dim1=1, dim2=2)
    rows, columns = torch.logsumexp(scores, 2) - own, torch.logsumexp(scores, 1) - own
    return mean_where((rows + columns) / 2, some)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f"temperature: expected a positive number, found {temperature}.")
