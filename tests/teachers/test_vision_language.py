"""Vision-language models of transformers as writers of captions; tiny ones, made here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from kdlight.errors import InputError
from kdlight.teachers.vision_language import VisionLanguageTeacher

SPELLED = {"a": "a", "0": "zero", "1": "one", ".": "."}


WORDS = ["<unk>", "<pad>", "<image>", "see", "one", ".", "a", "zero"]
SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
SEEN = SIZES | {"num_hidden_layers": 2, "image_size": 8, "patch_size": 4}


def tokenizer_of(words: list[str], **special: Any) -> PreTrainedTokenizerFast:
    known = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    known.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=known, unk_token="<unk>", pad_token="<pad>", **special
    )


def language_of(words: list[str]) -> LlamaConfig:
    return LlamaConfig(
        **SIZES, num_hidden_layers=1, num_key_value_heads=2, vocab_size=len(words), pad_token_id=1
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of 8x8 pixels."""
    place = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**SEEN), text_config=language_of(WORDS), image_token_id=2
    )
    LlavaForConditionalGeneration(config).save_pretrained(place)
    pictures = CLIPImageProcessor(
        size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}, do_convert_rgb=False
    )
    LlavaProcessor(
        pictures,
        tokenizer_of(WORDS, extra_special_tokens={"image_token": "<image>"}),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def tiled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Idefics3, which SmolVLM is: an image is four tiles of 8x8 pixels and the whole."""
    place = tmp_path_factory.mktemp("idefics")
    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    marks = ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *tiles]
    words = [*WORDS, *marks]
    torch.manual_seed(0)
    config = Idefics3Config(
        vision_config=SEEN,
        text_config=language_of(words),
        image_token_id=2,
        scale_factor=2,
        pad_token_id=1,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(place)
    pictures = Idefics3ImageProcessor(
        size={"longest_edge": 16}, max_image_size={"longest_edge": 8}, do_image_splitting=True
    )
    tokenizer = tokenizer_of(words, additional_special_tokens=marks)
    Idefics3Processor(pictures, tokenizer, image_seq_len=1).save_pretrained(place)
    return place


def captioned_pixels() -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Two images, their captions as texts, and as the numbers of the words in ``SPELLED``."""
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=source)
    texts = ["<image> see a one .", "<image> see a zero ."]
    return pixels, texts, torch.tensor([[0, 2, 3], [0, 1, 3]])


def test_scores_are_those_of_transformers(folder: Path) -> None:
    teacher = VisionLanguageTeacher(str(folder), SPELLED, "<image> see")
    assert (teacher.vocabulary, teacher.known_words) == (4, ["a", "0", "1", "."])
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    pixels, texts, tokens = captioned_pixels()
    given = processor(text=texts, images=list(pixels), return_tensors="pt")
    with torch.no_grad():
        expected = model(**given).logits[:, -4:-1, torch.tensor([6, 7, 4, 5])]
    said = teacher(pixels.float() / 127.5 - 1, tokens)
    torch.testing.assert_close(said.logits, expected)
    assert not said.routings
    grey = pixels[:, :1].float() / 127.5 - 1
    torch.testing.assert_close(teacher(grey, tokens), teacher(grey.expand(-1, 3, -1, -1), tokens))


def test_scores_of_an_image_in_tiles_are_those_of_transformers(tiled_folder: Path) -> None:
    teacher = VisionLanguageTeacher(str(tiled_folder), SPELLED, "<image> see")
    model = Idefics3ForConditionalGeneration.from_pretrained(tiled_folder).eval()
    processor = Idefics3Processor.from_pretrained(tiled_folder)
    pixels, texts, tokens = captioned_pixels()
    given = processor(text=texts, images=[[each] for each in pixels], return_tensors="pt")
    assert given["pixel_values"].shape == (2, 5, 3, 8, 8)
    with torch.no_grad():
        expected = model(**given).logits[:, -4:-1, torch.tensor([6, 7, 4, 5])]
    image = pixels.float() / 127.5 - 1
    torch.testing.assert_close(teacher(image, tokens).logits, expected)
    assert not torch.equal(teacher(image.flip(0), tokens).logits[:, 0], expected[:, 0])


def test_other_folders_words_and_prompts_are_refused_in_a_sentence(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        VisionLanguageTeacher(str(tmp_path / "x"), SPELLED)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="expected a vision-language model of transformers"):
        VisionLanguageTeacher(str(tmp_path), SPELLED)
    with pytest.raises(InputError, match=r"one token of .*, found 'thick': \['<unk>'\]"):
        VisionLanguageTeacher(str(folder), SPELLED | {"thick": "thick"})
    with pytest.raises(InputError, match="a token of its own for each, found 'one'"):
        VisionLanguageTeacher(str(folder), SPELLED | {"2": "one"})
    with pytest.raises(InputError, match="prompt: expected '<image>' in it once, found 'see'"):
        VisionLanguageTeacher(str(folder), SPELLED, "see")
