"""Does a text-to-image model show what it was asked for?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdlight.errors import InputError
from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.extractors import require_package
from kdlight.storage.pictures import to_bytes


class CLIPScore(SampleMetric):
    """Mean of ``100 max(cos(image, caption), 0)`` in the space of a CLIP (arXiv:2104.08718).

    The paper's own scale is 2.5 in place of 100. Figures of different CLIPs do not compare; papers
    on distilled Stable Diffusion take ViT-g/14 or ViT-L/14 and say which. Blind to variety and to
    most faults of a picture: read it beside an FID. torchmetrics' ``CLIPScore`` cuts the mean at 0,
    not each sample, and takes no note of non-finite ones.

    ``compute()`` returns ``clip_score`` in [0, 100] and ``non_finite``.

    Args:
        path: Folder or hub id of a CLIP of transformers with its processor.

    Raises:
        InputError: There is no such model.
    """

    higher_is_better = True
    names = ("clip_score",)
    count: Tensor
    total: Tensor

    def __init__(self, path: str) -> None:
        super().__init__()
        transformers = require_package("transformers", "")
        try:
            self.processor = transformers.CLIPProcessor.from_pretrained(path)
            network = transformers.CLIPModel.from_pretrained(path)
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path}: expected a CLIP of transformers, found none.") from None
        self.network = network.requires_grad_(False).eval()
        self.add_sums(count=(), total=())

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
        pictures = to_bytes(images[finite]).expand(-1, 3, -1, -1).cpu()
        given = self.processor(
            text=[caption for caption, whole in kept if whole],
            images=list(pictures),
            return_tensors="pt",
            padding=True,
            truncation=True,
        ).to(images.device)
        found = self.network(**given)
        cosine = torch.nn.functional.cosine_similarity(
            found.image_embeds.double(), found.text_embeds.double()
        )
        self.add_to("count", len(cosine))
        self.add_to("total", 100 * cosine.clamp(min=0).sum())

    def enough(self) -> bool:
        return bool(self.count >= 2)

    def figures(self) -> dict[str, Tensor]:
        return {"clip_score": self.total / self.count}
