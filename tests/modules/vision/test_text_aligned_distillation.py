"""Distillation into the space of images and texts: identities, and texts that take no part."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from datamodules.images.digits import DigitsDataModule
from datamodules.images.side_by_side import SideBySideDataModule
from datamodules.images.unseen import UnseenClassesDataModule
from kdlight.errors import InputError
from kdlight.losses.guidance import global_contrastive_loss
from kdlight.losses.language.divergences import forward_kl
from kdlight.losses.language.truncated import top_k
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.networks.images.text_classifier import TextClassifier
from kdlight.teachers.classifiers import bundled_classifier
from kdlight.teachers.image_text import CLIPTeacher, ComposedTeacher
from kdlight.training.optim import Optimization
from modules.vision.text_aligned_distillation import TextAlignedDistillation
from tests.exactness.harness import fit
from tests.exactness.vision_cases import TinyImageText

DIGITS = [str(digit) for digit in range(10)]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=source, dtype=torch.float64), dim=-1)


def test_equal_features_are_the_best_and_a_common_rotation_changes_nothing() -> None:
    taught, texts = unit(6, 5), unit(9, 5, seed=1)
    rotation = torch.linalg.qr(unit(5, 5, seed=2)).Q
    laws = (taught @ texts.T / 0.07).log_softmax(dim=1)
    turned = ((taught @ rotation) @ (texts @ rotation).T / 0.07).log_softmax(dim=1)
    torch.testing.assert_close(laws, turned)
    assert top_k(laws, laws, 4, "renormalised").abs().max() < 1e-12
    own = unit(6, 5, seed=3).requires_grad_(True)
    other = (own @ texts.T / 0.07).log_softmax(dim=1)
    torch.testing.assert_close(top_k(laws, other, 9, "renormalised"), forward_kl(laws, other))
    # Orthogonal features are told apart best by themselves, of all unit vectors.
    basis = torch.eye(5, dtype=torch.float64).requires_grad_(True)
    loss = global_contrastive_loss(F.normalize(basis, dim=1)[:, None], basis.detach()[:, None])
    (gradient,) = torch.autograd.grad(loss, basis)
    assert float(loss) < global_contrastive_loss(own[:5, None], basis.detach()[:, None])
    torch.testing.assert_close(gradient.diagonal(), torch.zeros(5, dtype=torch.float64))


def test_the_likeliest_texts_alone_count() -> None:
    said, own = unit(3, 8) * 9, unit(3, 8, seed=1) * 9
    least = said.argsort(dim=1)[:, :3]
    other = own.scatter_add(1, least, torch.full((3, 3), 5.0, dtype=torch.float64))
    found = [
        top_k(said.log_softmax(dim=1), each.log_softmax(dim=1), 5, "renormalised")
        for each in (own, other)
    ]
    torch.testing.assert_close(*found)


def test_texts_of_one_number_each_are_a_linear_classifier() -> None:
    torch.manual_seed(0)
    model = TextClassifier(SmallClassifier(num_classes=4, width=4), 4, temperature=1.0).eval()
    model.texts.copy_(torch.eye(4))
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model(image), F.normalize(model.encoder(image), dim=1))


def test_pairs_that_are_not_seen_are_not_trained_on() -> None:
    data = SideBySideDataModule(DigitsDataModule(), unseen=30, pictures=300, heldout=200)
    seen, unseen = data.groups["seen"], data.groups["unseen"]
    assert (len(seen), len(unseen)) == (70, 30)
    assert set(data.splits.training["label"].tolist()) == set(seen)
    assert set(data.splits.heldout["label"].tolist()) == set(range(100))
    assert data.class_names[37] == "3 and 7"
    teacher = ComposedTeacher(bundled_classifier("digits_classifier").eval(), DIGITS)
    texts = F.normalize(teacher.text_features(data.class_names), dim=1)
    held = data.splits.heldout
    with torch.no_grad():
        guess = (F.normalize(teacher.image_features(held["image"]), dim=1) @ texts.T).argmax(dim=1)
    assert (guess == held["label"]).float().mean() > 0.9


def aligned(**kwargs) -> TextAlignedDistillation:
    student = TextClassifier(SmallClassifier(size=4, num_classes=3, width=4), 2)
    return TextAlignedDistillation(
        TinyImageText(), student, Optimization(lr=3e-3), texts=["a", "b"], iterations=3, **kwargs
    )


def test_classes_that_are_never_trained_on_are_held_out_with_the_others() -> None:
    data = UnseenClassesDataModule(DigitsDataModule(), ["3", 7])
    assert data.groups == {"seen": [0, 1, 2, 4, 5, 6, 8, 9], "unseen": [3, 7]}
    assert set(data.splits.training["label"].tolist()) == set(data.groups["seen"])
    assert set(data.splits.heldout["label"].tolist()) == set(range(10))
    drawn = UnseenClassesDataModule(DigitsDataModule(), 4, seed=5).groups["unseen"]
    assert drawn == UnseenClassesDataModule(DigitsDataModule(), 4).groups["unseen"]
    assert len(drawn) == 4
    for unseen in (0, 10, []):
        with pytest.raises(InputError, match="unseen: expected some but not all of the 10"):
            _ = UnseenClassesDataModule(DigitsDataModule(), unseen).groups
    with pytest.raises(InputError, match="expected names of the data's classes, found 'x'"):
        _ = UnseenClassesDataModule(DigitsDataModule(), ["x"]).groups


def test_texts_of_unseen_classes_take_no_part() -> None:
    module = fit(aligned())
    torch.testing.assert_close(module.student.texts.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(module.ema.module.texts, module.student.texts)
    # Of one text alone nothing is to be told apart.
    module.known[1] = False
    said: dict[str, torch.Tensor] = {}
    module.optimize = lambda name, loss: None
    module.report = said.update
    module.step({"image": torch.rand(4, 1, 4, 4), "label": torch.zeros(4, dtype=torch.int64)})
    assert float(said["classes"]) == float(said["alignment"]) == 0.0
    assert float(said["distance"]) > 0


def test_what_does_not_fit_is_refused() -> None:
    student = TextClassifier(SmallClassifier(size=4, num_classes=4, width=4), 2)
    with pytest.raises(InputError, match="encoder of num_classes 3, the teacher's"):
        TextAlignedDistillation(TinyImageText(), student, Optimization())
    with pytest.raises(InputError, match="expected the 3 texts of the data's classes, found 2"):
        module = aligned()
        module.texts = ["a", "b", "c"]
        fit(module)
    with pytest.raises(InputError, match="expected one above 0"):
        aligned(classes=0.0, distance=0.0, contrast=0.0, alignment=0.0)
    with pytest.raises(InputError, match="expected two of its words in 'x'"):
        ComposedTeacher(SmallClassifier(), DIGITS).text_features(["x"])


def test_a_clip_of_transformers_is_a_teacher(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    sizes["num_attention_heads"] = 2
    text = {"vocab_size": len(words), "max_position_embeddings": 6} | sizes
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"image_size": 8, "patch_size": 4} | sizes
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=6
    )
    seen = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    processor = CLIPProcessor(seen, tokenizer)
    processor.save_pretrained(tmp_path)
    teacher = CLIPTeacher(str(tmp_path))
    assert teacher.width == 4
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    given = processor(text=["a c", "b"], images=list(pixels), return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**given)
    own = teacher.image_features(pixels.float() / 127.5 - 1)
    torch.testing.assert_close(F.normalize(own, dim=1), expected.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        F.normalize(teacher.text_features(["a c", "b"]), dim=1), expected.text_embeds
    )
    with pytest.raises(InputError, match="no such file or folder"):
        CLIPTeacher(str(tmp_path / "x"))
