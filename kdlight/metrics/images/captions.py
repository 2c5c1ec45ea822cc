"""Does a text-to-image model show what it was asked for?"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.extractors import require_package
from kdlight.metrics.images.open_clip import read_open_clip
from kdlight.storage.files import load_weights
from kdlight.storage.pictures import to_bytes
from kdlight.storage.pretrained import one_sentence, pretrained, whole


class CLIPScore(SampleMetric):
    """Mean of ``100 max(cos(image, caption), 0)`` in the space of a CLIP (arXiv:2104.08718).

    The paper's own scale is 2.5 in place of 100. Figures of different CLIPs do not compare; papers
    on distilled Stable Diffusion take ViT-g/14 or ViT-L/14 and say which. Blind to variety and to
    most faults of a picture: read it beside an FID. torchmetrics' ``CLIPScore`` cuts the mean at 0,
    not each sample, and takes no note of non-finite ones.

    ``compute()`` returns ``clip_score`` in [0, 100] and ``non_finite``.

    Args:
        path: Folder or hub id of a CLIP of transformers with its processor.
        processor: Folder or hub id of the processor where it lies elsewhere.

    Raises:
        InputError: There is no such model.
    """

    higher_is_better = True
    names = ("clip_score",)
    count: Tensor
    total: Tensor

    def __init__(self, path: str, processor: str | None = None) -> None:
        super().__init__()
        transformers = require_package("transformers", "")
        expected = "a CLIP of transformers"
        self.processor = pretrained(transformers.CLIPProcessor, processor or path, expected)
        network = whole(transformers.CLIPModel, path, expected)
        self.network = network.requires_grad_(False).eval()
        self.add_sums(count=(), total=())
        with one_sentence(path, expected):  # some settings fail in use alone
            self._cosines(torch.zeros(1, 1, 8, 8), ["a"])

    @torch.no_grad()
    def update(self, images: Tensor, captions: Sequence[str]) -> None:
        """Add pictures and what each was asked to show.

        Args:
            images: (B, 1 or 3, H, W) in [-1, 1]; the model's own processor resizes and crops them.
            captions: B texts; one that is too long for the model is cut.

        Raises:
            InputError: There is not one caption for each picture.
        """
        if len(images) != len(captions):
            raise InputError(
                f"captions: expected one for each of {len(images)} pictures, found {len(captions)}."
            )
        finite = images.flatten(1).isfinite().all(dim=1)
        self.add_to("non_finite", (~finite).sum())
        if not finite.any():
            return
        kept = zip(captions, finite.tolist(), strict=True)
        cosine = self._cosines(images[finite], [caption for caption, known in kept if known])
        self.add_to("count", len(cosine))
        self.add_to("total", self.scores(cosine).sum())

    @torch.no_grad()
    def _cosines(self, images: Tensor, captions: list[str]) -> Tensor:
        given = self.processor(
            text=captions,
            images=list(to_bytes(images).expand(-1, 3, -1, -1).cpu()),
            return_tensors="pt",
            padding=True,
            truncation=True,
        ).to(images.device)
        found = self.network(**given)
        return torch.nn.functional.cosine_similarity(
            found.image_embeds.double(), found.text_embeds.double()
        )

    @staticmethod
    def scores(cosine: Tensor) -> Tensor:
        """Of each sample, by its cosine (B,)."""
        return 100 * cosine.clamp(min=0)

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {self.names[0]: self.total / self.count}


class PreferenceScore(CLIPScore):
    """Mean of ``100 cos(image, caption)`` in the space of a CLIP trained on human preferences.

    PickScore (Kirstain et al. 2023, arXiv:2305.01569) is such a CLIP of transformers. HPS v2 (Wu et
    al. 2023, arXiv:2306.09341) is one of open_clip's ViT-H/14, whose weights go into that network
    of transformers; its authors report the same hundredfold cosine. Figures of different models do
    not compare.

    ``compute()`` returns ``preference`` and ``non_finite``.

    Args:
        path: Folder or hub id of a CLIP of transformers.
        weights: Weights of open_clip to put into it; null for its own.
        processor: Folder or hub id of its processor; null for ``path``.

    Raises:
        InputError: There is no such model, or the weights are not of it.
    """

    names = ("preference",)

    def __init__(
        self, path: str, weights: Path | None = None, processor: str | None = None
    ) -> None:
        super().__init__(path, processor)
        if weights is not None:
            kept = {n: t for n, t in self.network.state_dict().items() if "position_ids" in n}
            load_weights(self.network, kept | read_open_clip(weights), str(weights))

    @staticmethod
    def scores(cosine: Tensor) -> Tensor:
        return 100 * cosine
