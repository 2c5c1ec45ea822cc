"""A place where a command reads a file, and the names of the files that many places share."""

from dataclasses import dataclass

LAST = "runs/tiny/version_0/checkpoints/last.ckpt"
LANGUAGE = "runs/language/version_0/checkpoints/last.ckpt"
RUN = "runs/tiny/version_0"
SPOKEN = "runs/speech/version_0"
KEPT = ("codec.safetensors", "codec.json")
TEACHER = ("teacher.safetensors", "teacher.json")
BUNDLED = ("digits_teacher.safetensors", "digits_teacher.json")
TINY = "fit --config tiny.yaml --runs_dir out"
WRITER = f"--checkpoint {LANGUAGE} --config language.yaml --num-samples 4 --output out.json"
BROUGHT = {
    "tiny": (),
    "speech": ("speech",),
    "scores": ("pictures",),
    "language": (),
    "completions": ("llama", "draft", "chats.jsonl"),
    "ranking": ("ranked.jsonl",),
    "rounds": (),
    "vision": ("classifier", "pictures"),
    "synthesis": (),
}
"""Configurations whose keys are tried, and the files and folders that they read."""


@dataclass(frozen=True)
class Slot:
    """A place where a command reads a file.

    Attributes:
        words: A command that works.
        needs: Files and folders of the corpus that it reads.
        victim: Which of the files is spoilt.
    """

    words: str
    needs: tuple[str, ...]
    victim: str

    @property
    def verb(self) -> str:
        return self.words.split()[0]
