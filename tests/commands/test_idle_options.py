"""An option that would change nothing beside the others is refused, whatever verb it is of."""

from pathlib import Path

import pytest

from kdlight.commands.parsing.arguments import Parser
from tests.commands.tiny import Run, refused

IDLE = {
    # What is asked for: the option that is idle there, what it would take.
    "evaluate codec --reference a --degraded b --metrics pesq_wb --language de": "wer",
    "evaluate codec --reference a --degraded b --metrics stoi --recogniser pocketsphinx": "wer",
    "evaluate codec --reference a --degraded b --metrics stoi --normaliser english": "wer",
    "evaluate codec --reference a --degraded b --metrics stoi --transcripts t.tsv": "wer",
    "evaluate images --samples a.pt --data digits --steps 2": "--checkpoint",
    "evaluate images --samples a.pt --data digits --num-samples 2000": "--checkpoint",
    "evaluate images --samples a.pt --data digits --model teacher": "--checkpoint",
    "evaluate images --checkpoint a --data digits --bit-depth 12": "a folder of pictures",
    "evaluate captions --samples a --clip b --processor c": "--preference",
    "evaluate statistics --samples a.pt --features inception --output x.npz --size 8": "--data",
    "evaluate statistics --data digits --features inception --output x.npz --size 8": "a folder",
    "evaluate language --samples a.txt --judge b --draws 4": "--checkpoint",
    "encode a.wav --checkpoint c --output x --segments --n-q 2": "codec",
    "encode a.wav --checkpoint c --output x --segments --context 2": "codec",
    "export --checkpoint c --output x --summary hello": ".safetensors",
    "export --checkpoint c --output x.safetensors --to onnx --half": ".safetensors",
    "export --checkpoint c --output x.safetensors --packed --steps 2": "a generator",
    "generate --checkpoint c --given 2": "--codes",
    "generate --checkpoint c --codes d --output x --num-samples 2": "texts",
    "generate --checkpoint c --length 8": "a folder of transformers",
    "generate --checkpoint c --draft-block 4": "--draft",
    "generate --checkpoint c --draft-texts d": "--draft",
    "generate --checkpoint c --draft-table d.json": "--draft",
    "generate --checkpoint c --temperature 1": "--draft",
    "generate --checkpoint c --draft trigram --draft-block 4": "a model",
    "prune c --keep mlp=2 --output x.safetensors --least-share 0.1": "--vocabulary-of",
    "prune c --vocabulary-of d --output x.safetensors --rank-by random": "--keep",
    "prune c --keep mlp=2 --output x.safetensors --layers-by loss": "layers=N",
    "prune c --vocabulary-of d --output x.safetensors --calibration e": "--keep",
    "prune c --experts 0.5 --output x.safetensors --rank-by random": "--keep",
    "sample --checkpoint c --speaker 1": "--text",
    "sample --checkpoint c --prompt a.wav": "--text",
    "sample --checkpoint c --text hello --output x.wav --prompts p.txt": "pictures",
    "sample --checkpoint c --text hello --output x.wav --num-samples 2": "pictures",
    "sample --checkpoint c --prompts p.txt --output x --num-samples 2": "--prompts",
    "score d.jsonl --teacher c --output x.jsonl --length 8": "a folder of transformers",
    "select s.jsonl --output x.json --by random --beta 1": "--by difference",
    "select s.jsonl --output x.json --by margin --wrong 0.1": "--by robust",
    "select s.jsonl --output x.json --by robust --per-token": "--by difference or likelihood",
}


@pytest.mark.parametrize("command", IDLE)
def test_options_that_change_nothing(command: str, kdlight: Run, tmp_path: Path) -> None:
    idle = [word for word in command.split() if word.startswith("--")][-1]
    refused(kdlight, command.split(), f" {idle}: expected", IDLE[command], where=tmp_path)


def test_given_is_what_was_said_not_what_differs() -> None:
    parser = Parser("x", "", "")
    parser.add_argument("--number", type=int, default=3)
    parser.add_argument("--word", default="a")
    assert parser.typed(["--number", "3"]) == {"number"}
    assert parser.parse_args(["--number", "3"]).word == "a"
