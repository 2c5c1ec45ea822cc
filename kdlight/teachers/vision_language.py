"""Vision-language models of transformers that say how likely the words of captions are."""

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.errors import InputError
from kdlight.networks.images.captioner import CaptionWriter, Written
from kdlight.storage.pretrained import one_sentence, pretrained, whole

EXPECTED = "a vision-language model of transformers"


class VisionLanguageTeacher(CaptionWriter):
    """A model of transformers that writes of an image, such as LLaVA, Idefics or SmolVLM.

    It reads a prompt with the image and then a caption; of its scores those of the words of the
    data are kept, so that a small student needs no vocabulary but theirs, and a softmax over them
    is its law among them. Each word has to be one token of the model's, for which it may be spelled
    otherwise: ``{a: a, ".": ".", thin: thin, thick: thick, "0": zero, ...}``. No code of the folder
    is run, nor its template of chats: the prompt is written out.

    Args:
        path: Folder, or name on the hub, of the model and its processor.
        words: How the model spells each word of the data, in their order.
        prompt: What stands before the caption, with the model's token of an image in it once.

    Raises:
        InputError: There is no such model with all its weights, a word is not one token of its own,
            or the prompt has no place for an image.
    """

    ids: Tensor
    length = None

    def __init__(self, path: str, words: dict[str, str], prompt: str = "<image>\n") -> None:
        super().__init__()
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor: Any = pretrained(AutoProcessor, path, EXPECTED)
        with one_sentence(path, EXPECTED):  # another kind of model has not these parts
            place, tokenizer = str(self.processor.image_token), self.processor.tokenizer
        if prompt.count(place) != 1:
            raise InputError(f"prompt: expected {place!r} in it once, found {prompt!r}.")
        self.prompt = prompt
        self.known_words, self.vocabulary = list(words), len(words)
        with one_sentence(path, EXPECTED):
            found = [token_of(tokenizer, word, path) for word in words.values()]
        for token, word in zip(found, words.values(), strict=True):
            if found.count(token) > 1:
                raise InputError(f"words: expected a token of its own for each, found {word!r}.")
        self.network: Any = whole(AutoModelForImageTextToText, path, EXPECTED, dtype=torch.float32)
        self.ids = nn.Buffer(torch.tensor(found), persistent=False)
        self.eval()
        self.provenance = {"source": path}

    @torch.no_grad()
    def forward(self, image: Tensor, tokens: Tensor) -> Written:
        pixels = (image.expand(-1, 3, -1, -1).clamp(-1, 1) + 1) * 127.5
        given = self.processor(
            text=[self.prompt] * len(image),
            images=list(pixels.round().byte().cpu()),
            return_tensors="pt",
        ).to(image.device)
        caption = self.ids[tokens[:, :-1]]
        read = given["input_ids"]
        # What goes along with the prompt's tokens, such as their types, goes on for the caption's.
        behind = {"input_ids": caption, "attention_mask": torch.ones_like(caption)}
        for name in [name for name, value in given.items() if value.shape == read.shape]:
            added = behind.get(name, torch.zeros_like(caption))
            given[name] = torch.cat([given[name], added.to(given[name].dtype)], dim=1)
        scores = self.network(**given, use_cache=False, logits_to_keep=tokens.shape[1]).logits
        return Written(scores[..., self.ids], [])


def token_of(tokenizer: Any, word: str, path: str) -> int:
    """The number of the one token that a word is, behind another or at the start of a text.

    Raises:
        InputError: It is several, or unknown.
    """
    for text in (f" {word}", word):
        found = tokenizer.encode(text, add_special_tokens=False)
        if len(found) == 1 and found[0] != tokenizer.unk_token_id:
            return int(found[0])
    pieces = tokenizer.convert_ids_to_tokens(found)
    raise InputError(f"words: expected each to be one token of {path}, found {word!r}: {pieces}.")
