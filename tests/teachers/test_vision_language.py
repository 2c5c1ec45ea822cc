"""Vision-language models of transformers as writers of captions; tiny ones, made here."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from kdlight.errors import InputError
from kdlight.teachers.vision_language import VisionLanguageTeacher

SPELLED = {"a": "a", "0": "zero", "1": "one", ".": "."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llava")
    words = ["<unk>", "<pad>", "<image>", "see", "one", ".", "a", "zero"]
    known = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    known.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=known,
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    seen = CLIPVisionConfig(**sizes, num_hidden_layers=2, image_size=8, patch_size=4)
    said = LlamaConfig(
        **sizes, num_hidden_layers=1, num_key_value_heads=2, vocab_size=len(words), pad_token_id=1
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=seen, text_config=said, image_token_id=2)
    LlavaForConditionalGeneration(config).save_pretrained(place)
    pictures = CLIPImageProcessor(
        size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}, do_convert_rgb=False
    )
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(place)
    return place


def test_scores_are_those_of_transformers(folder: Path) -> None:
    teacher = VisionLanguageTeacher(str(folder), SPELLED, "<image> see")
    assert (teacher.vocabulary, teacher.known_words) == (4, ["a", "0", "1", "."])
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=source)
    texts = ["<image> see a one .", "<image> see a zero ."]
    given = processor(text=texts, images=list(pixels), return_tensors="pt")
    with torch.no_grad():
        expected = model(**given).logits[:, -4:-1, torch.tensor([6, 7, 4, 5])]
    tokens = torch.tensor([[0, 2, 3], [0, 1, 3]])
    said = teacher(pixels.float() / 127.5 - 1, tokens)
    torch.testing.assert_close(said.logits, expected)
    assert not said.routings
    grey = pixels[:, :1].float() / 127.5 - 1
    torch.testing.assert_close(teacher(grey, tokens), teacher(grey.expand(-1, 3, -1, -1), tokens))


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
