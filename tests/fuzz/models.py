"""Models of language, speech and pictures, and what is learnt from, as small as they can be."""

import json
from pathlib import Path

import torch
import torchvision
from tokenizers import Tokenizer, models
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from kdlight.codec.frame_rate import MelEncoder
from kdlight.codec.syllable_encoder import SyllableEncoder
from kdlight.discrete.autoregressive import AutoregressiveGenerator, AutoregressiveModel
from kdlight.discrete.text_generator import TextGenerator
from kdlight.networks.images.classifier import SmallClassifier
from kdlight.networks.text.token_transformer import TokenTransformer
from kdlight.storage.files import save_model
from kdlight.storage.tokenizers import CharacterTokenizer
from tests.convert.test_authors import WRITERS
from tests.convert.test_masked_language_models import mdlm, smdm
from tests.modules.speech.synthesis_cases import tiny_teacher
from tests.modules.speech.timbre_cases import tiny_converter
from tests.networks.test_pretrained import llama

SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def make(root: Path) -> None:
    """Write them all."""
    for write in WRITERS.values():
        write(root)
    (root / "mdlm").mkdir()
    mdlm(root / "mdlm")
    smdm(root)
    words = {f"w{index}": index for index in range(19)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(root / "tokenizer.json"))
    _language(root)
    _speech(root)
    _pictures(root)
    _learnt_from(root)


def _language(root: Path) -> None:
    for name, width in (("large", 16), ("small", 8)):
        network = TokenTransformer(5, width=width, depth=1, heads=2, causal=True)
        torch.nn.init.normal_(network.head.weight, std=0.3)
        model = AutoregressiveGenerator(AutoregressiveModel(network, 5, 8))
        letters = CharacterTokenizer("ab\n")
        save_model(TextGenerator(model, letters), root / f"{name}.safetensors")
    network = TokenTransformer(4, width=8, depth=1, heads=2, causal=True)
    oracle = AutoregressiveGenerator(AutoregressiveModel(network, 4, 4))
    save_model(oracle, root / "oracle.safetensors")
    llama(root / "llama", vocab_size=8)
    llama(root / "draft", width=4, seed=1, vocab_size=8)


def _speech(root: Path) -> None:
    rate, hop = 16_000, 320
    syllables = SyllableEncoder(MelEncoder(3, rate, hop, 640, 16, 8, 1, 2), 3, rate, hop)
    syllables.threshold.fill_(0.9)
    save_model(syllables, root / "syllables.safetensors")
    save_model(tiny_teacher(), root / "voice.safetensors")
    save_model(tiny_converter(), root / "converter.safetensors")


def _pictures(root: Path) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_labels=2, **SMALL)
    ViTForImageClassification(config).save_pretrained(root / "classifier")
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(root / "classifier")
    mobile = torchvision.models.get_model(
        "mobilenet_v3_small", weights=None, num_classes=2, width_mult=0.25
    )
    torch.save(mobile.state_dict(), root / "mobile.pth")
    save_model(SmallClassifier(3, 8, 2, 4, 4), root / "seen.safetensors")


def _learnt_from(root: Path) -> None:
    (root / "long.txt").write_text("abba\nbaab\n" * 40)
    said = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c d"}]
    rows = [{"messages": said}, {"prompt": "a", "completion": "b c"}] * 3
    _lines(root / "chats.jsonl", rows)
    ranked = [
        {"query": f"{a} b", "positive": "b c", "negatives": ["d", f"e {a}"], "scores": [3, 1, 0.5]}
        for a in "abcdef"
    ]
    _lines(root / "ranked.jsonl", ranked)


def _lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
