"""CLIP score on a tiny random CLIP."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from kdlight.errors import InputError
from kdlight.metrics.images.captions import CLIPScore, PreferenceScore
from tests.commands.tiny import Run, last_line

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CAPTIONS = ["a cat", "a dog", "x y z"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{each}</w>" for each in LETTERS)]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=6
    )
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    sizes["num_attention_heads"] = 2
    text = {"vocab_size": len(words), "max_position_embeddings": 6} | sizes
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"image_size": 8, "patch_size": 4} | sizes
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4))
    place = tmp_path_factory.mktemp("clip")
    model.save_pretrained(place)
    images = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    CLIPProcessor(images, tokenizer).save_pretrained(place)
    return str(place)


def pictures(place: Path) -> list[Image.Image]:
    """Three pictures of two sizes, with their captions beside them."""
    generator = np.random.default_rng(0)
    made = []
    for index, caption in enumerate(CAPTIONS):
        pixels = generator.integers(0, 256, (12, 12 + 4 * (index % 2), 3), np.uint8)
        made.append(Image.fromarray(pixels))
        made[-1].save(place / f"{index}.png")
        (place / f"{index}.txt").write_text(f"{caption}\n")
    return made


def test_score_is_the_models_own_cosine(clip: str, kdlight: Run, tmp_path: Path) -> None:
    shown = pictures(tmp_path)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    expected = []
    for image, caption in zip(shown, CAPTIONS, strict=True):
        given = processor(text=[caption], images=[image], return_tensors="pt", truncation=True)
        with torch.no_grad():
            logit = model(**given).logits_per_image / model.logit_scale.exp()
        expected.append(100 * max(float(logit), 0.0))
    output = tmp_path / "x.json"
    words = ["--samples", tmp_path, "--clip", clip, "--output", output]
    code, out, err = kdlight("evaluate", "captions", *words)
    assert (code, last_line(out)) == (0, output), err
    (row,) = json.loads(output.read_text())
    assert row["clip_score"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert row["clip"] == clip
    assert any(value > 0 for value in expected)


def test_models_of_preference_are_columns_of_their_own(
    clip: str, kdlight: Run, tmp_path: Path
) -> None:
    shown = pictures(tmp_path)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    expected = []
    for image, caption in zip(shown, CAPTIONS, strict=True):
        given = processor(text=[caption], images=[image], return_tensors="pt", truncation=True)
        with torch.no_grad():
            found = model(**given)
        cosine = torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds)
        expected.append(100 * float(cosine))
    output = tmp_path / "x.json"
    other = tmp_path / "other" / "PickScore"
    shutil.copytree(clip, other)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (other / name).unlink(missing_ok=True)
    words = ["--samples", tmp_path, "--preference", other, "--processor", clip]
    code, out, err = kdlight("evaluate", "captions", *words, "--output", output)
    assert (code, last_line(out)) == (0, output), err
    (row,) = json.loads(output.read_text())
    assert row["preference_PickScore"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert "clip_score" not in row
    code, _, err = kdlight("evaluate", "captions", "--samples", tmp_path)
    assert (code, "expected --clip or --preference" in err) == (2, True)
    both = ["--preference", other, other, "--processor", clip]
    code, _, err = kdlight("evaluate", "captions", "--samples", tmp_path, *both)
    assert (code, "expected models of different names" in err) == (2, True)


def test_pictures_of_prompts_take_a_model_of_text(
    checkpoint: Path, kdlight: Run, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n")
    words = ["--checkpoint", checkpoint, "--prompts", tmp_path / "prompts.txt"]
    for more, sentence in (
        ([], "expected a folder for --prompts"),
        (["--output", tmp_path / "a", "--label", 1], "--label: expected none beside --prompts"),
        (["--output", tmp_path / "a"], "--prompts: expected a text-to-image model"),
    ):
        code, _, err = kdlight("sample", *words, *more)
        assert (code, sentence in err) == (2, True), err
    assert not (tmp_path / "a").exists()


def test_weights_of_another_model_are_refused(clip: str, tmp_path: Path) -> None:
    torch.save({"logit_scale": torch.zeros(())}, tmp_path / "hps.pt")
    with pytest.raises(InputError, match=r"hps\.pt: weights do not fit the model: .* missing"):
        PreferenceScore(clip, tmp_path / "hps.pt")


def test_a_missing_caption_or_model_is_one_sentence(
    clip: str, kdlight: Run, tmp_path: Path
) -> None:
    pictures(tmp_path)
    (tmp_path / "1.txt").unlink()
    code, _, err = kdlight("evaluate", "captions", "--samples", tmp_path, "--clip", clip)
    assert code == 2
    assert "1.png: expected its caption in 1.txt beside it" in err
    with pytest.raises(InputError, match="expected a CLIP of transformers"):
        CLIPScore(str(tmp_path))


def test_broken_pictures_make_it_nan_and_counts_have_to_agree(clip: str) -> None:
    metric = CLIPScore(clip)
    images = torch.rand(3, 3, 8, 8) * 2 - 1
    with pytest.raises(InputError, match="expected one for each of 3 pictures, found 1"):
        metric.update(images, ["a cat"])
    images[1, 0, 0, 0] = torch.nan
    metric.update(images, CAPTIONS)
    found = metric.compute()
    assert found["non_finite"] == 1
    assert found["clip_score"].isnan()
