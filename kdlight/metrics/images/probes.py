"""What an encoder that saw no label is good for."""

import copy
from collections.abc import Callable

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from kdlight.networks.images.vit import Block, TokenEncoder, ViTClassifier


def linear_probe(features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy of logistic regression on features brought to mean 0 and spread 1.

    The scale matters: an untrained network's small features are never fitted under the same
    regularisation.

    Args:
        features: (N, D).
        labels: (N,) int64.
        test: (M, D).
        test_labels: (M,).
    """
    scaler = StandardScaler().fit(features.cpu().double().numpy())
    known, asked = (scaler.transform(each.cpu().double().numpy()) for each in (features, test))
    model = LogisticRegression(max_iter=300).fit(known, labels.cpu().numpy())
    return float(model.score(asked, test_labels.cpu().numpy()))


AT_ONCE = 250
"""Images of a call."""


@torch.no_grad()
def by_parts(call: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """What a network says of many images (N, C, H, W), a part of them at a time, (N, ...)."""
    return torch.cat([call(some) for some in _parts(image)])


def _parts(values: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = values.split(AT_ONCE)  # type: ignore[no-untyped-call]
    return parts


def few_per_class(labels: Tensor, count: int) -> Tensor:
    """Indices of the first ``count`` samples of every class."""
    classes = torch.bincount(labels).nonzero()
    return torch.cat([torch.nonzero(labels == value)[:count, 0] for value in classes])


def few_label_accuracy(
    encoder: TokenEncoder,
    image: Tensor,
    labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    steps: int,
    seed: int,
) -> float:
    """Accuracy on a test set after fine-tuning all of a copy on few labelled images.

    AdamW at 0.001, falling in a cosine, each update on all images, 250 of them at once.

    Args:
        encoder: Where it starts from; it stays as it is.
        image: Labelled images, (N, C, H, W).
        labels: (N,) int64.
        test: (M, C, H, W).
        test_labels: (M,).
        steps: Updates.
        seed: Of the head.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        classes = int(labels.max()) + 1
        model = ViTClassifier(copy.deepcopy(encoder), classes).to(image.device)
        model.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            for some, named in zip(_parts(image), _parts(labels), strict=True):
                loss = F.cross_entropy(model(some), named) * (len(some) / len(image))
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    guesses = by_parts(model.eval(), test).argmax(dim=1)
    return float((guesses == test_labels).double().mean())


def head_similarity(blocks: list[Block]) -> Tensor:
    """Mean cosine of the attention maps of two heads of a block, over images and blocks, ().

    1: all heads attend alike, which is how an encoder loses its diversity (arXiv:2306.15876).
    """
    found = []
    for block in blocks:
        scores = block.queries @ block.keys.transpose(2, 3) / block.queries.shape[3] ** 0.5
        maps = F.normalize(scores.softmax(dim=3).flatten(2), dim=2)
        heads = maps.shape[1]
        alike = maps @ maps.transpose(1, 2)
        pairs = alike.sum(dim=(1, 2)) - alike.diagonal(dim1=1, dim2=2).sum(dim=1)
        found.append((pairs / max(1, heads * (heads - 1))).mean())
    return torch.stack(found).mean()
