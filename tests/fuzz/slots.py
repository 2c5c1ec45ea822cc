"""Every place where a command reads a file, and a command that works there."""

from dataclasses import dataclass

from tests.fuzz.corpus import CONFIGS

LAST = "runs/tiny/version_0/checkpoints/last.ckpt"


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


IMAGES = "evaluate images --data pictures --num-samples 6 --batch-size 3 "
CODEC = "evaluate codec --reference speech --metrics log_mel_l1 "
KEPT = ("codec.safetensors", "codec.json")
TEACHER = ("teacher.safetensors", "teacher.json")
BUNDLED = ("digits_teacher.safetensors", "digits_teacher.json")
PIPELINE = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
RUN = "runs/tiny/version_0"
OF_RUN = ("config.yaml", "run.json", "summary.json", "metrics.csv", "samples/final_student_1.png")
SPOKEN = "runs/speech/version_0"
TINY = "fit --config tiny.yaml --runs_dir out"
TAUGHT = (
    f"{TINY} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.diffusion.diffusers_teacher",'
    '"init_args":{"path_or_id":"diffusers"}} --model.init_args.student null'
)
LEARNT = (
    f"{TINY} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.diffusion.run_teacher",'
    '"init_args":{"checkpoint":"teacher.safetensors"}}'
)
PAIRED = (
    "fit --config tiny.yaml --runs_dir out --data "
    '{"class_path":"datamodules.images.pairs.PairsDataModule","init_args":{"count":8,"steps":2,'
    '"file":"pairs.safetensors","batch_size":4,"steps_per_epoch":2,"teacher":'
    '{"class_path":"kdlight.teachers.diffusion.bundled_teacher","init_args":'
    '{"name":"digits_teacher"}},"reference":{"class_path":"datamodules.images.digits.'
    'DigitsDataModule"}}}'
)

LATENT = (
    "fit --config tiny.yaml --runs_dir out --model "
    '{"class_path":"modules.diffusion.latent_consistency.LatentConsistency","init_args":'
    '{"teacher":{"class_path":"kdlight.teachers.latent.latent_teacher","init_args":'
    '{"path_or_id":"latent","prompts":["a","b"]}},"optimizer":{"lr":0.001},"iterations":2}} --data '
    '{"class_path":"datamodules.images.latents.CaptionedLatentsDataModule","init_args":{"size":16,'
    '"path_or_id":"latent","data_dir":"pictures","batch_size":2,"steps_per_epoch":2}}'
    " --trainer.callbacks null"
)
OF_LATENT = (
    *("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"),
    *("unet/diffusion_pytorch_model.safetensors", "vae/config.json", "text_encoder/config.json"),
    *("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"),
    *("tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json"),
)
LABELLED = "fit --config scores.yaml --runs_dir out --data.init_args.labels pictures/labels"
STATISTICS = (
    "evaluate images --samples pictures --reference statistics.npz --features transformers:vision "
    "--output out.json"
)
CAPTIONS = "evaluate captions --samples pictures --clip clip --output out.json"
LANGUAGE = "runs/language/version_0/checkpoints/last.ckpt"
WRITER = f"--checkpoint {LANGUAGE} --config language.yaml --num-samples 4 --output out.json"
TEXTS = (
    "fit --config language.yaml --runs_dir out --trainer.callbacks null --data "
    '{"class_path":"datamodules.text.text_files.TextFilesDataModule","init_args":{"path":"texts",'
    '"tokenizer":{"class_path":"kdlight.storage.tokenizers.CharacterTokenizer","init_args":'
    '{"alphabet":"ab"}},"length":4,"batch_size":4,"steps_per_epoch":2}}'
)
FORMATS = {"edm": "edm.pkl", "edm2": "edm2.pkl", "adm": "adm.pt --kind consistency"}

PUBLISHED = [
    *[
        Slot(f"convert {kind} {words} out.safetensors", (file,), file)
        for kind, words in FORMATS.items()
        for file in (words.split()[0],) * 2
    ],
    *[
        Slot(f"{verb} --codec {kind} {given} --output out", (kind, given), f"{kind}/{each}")
        for kind in ("encodec", "dac", "mimi", "xcodec")
        for verb, given in (("encode", "speech"), ("decode", "codes"))
        for each in ("config.json", "model.safetensors")
    ],
    *[
        Slot(
            f"decode --codec codec.safetensors codes/{each} --output out",
            (*KEPT, "codes"),
            f"codes/{each}",
        )
        for each in ("a.npy", "b.npz", "c.pt", "d.jsonl")
        for _ in range(2)
    ],
    *[
        Slot(f"{words} --output out", (*KEPT, "speech"), "speech/parts.jsonl")
        for words in (
            "encode --checkpoint codec.safetensors speech/parts.jsonl",
            "encode --checkpoint codec.safetensors speech/parts.jsonl --batch-size 2",
        )
    ],
    Slot(
        "fit --config speech.yaml --runs_dir out --data.init_args.data_dir speech/parts.jsonl",
        ("speech.yaml", "speech"),
        "speech/parts.jsonl",
    ),
    *[
        Slot(f"{LABELLED}{suffix}", ("scores.yaml", "pictures"), f"pictures/labels{suffix}")
        for suffix in (".csv", ".jsonl")
    ],
    *[Slot(LATENT, ("tiny.yaml", "latent", "pictures"), f"latent/{each}") for each in OF_LATENT],
    *[
        Slot(STATISTICS, ("pictures", "vision", "statistics.npz"), each)
        for each in ("statistics.npz", "vision/config.json", "vision/preprocessor_config.json")
    ],
    *[
        Slot(CAPTIONS, ("pictures", "clip"), each)
        for each in (
            *("pictures/a/0.txt", "pictures/a/0.png", "clip/config.json"),
            *("clip/model.safetensors", "clip/tokenizer.json", "clip/processor_config.json"),
        )
    ],
    *[
        Slot(TEXTS, ("language.yaml", "texts"), f"texts/{each}")
        for each in ("a.txt", "b.jsonl", "c.csv")
    ],
    *[
        Slot(f"generate --checkpoint {LANGUAGE} --num-samples 2 --output out.txt", needs, victim)
        for needs, victim in (((LANGUAGE,), LANGUAGE),) * 2
    ],
    *[
        Slot(f"evaluate language {WRITER}", (LANGUAGE, "language.yaml"), each)
        for each in (LANGUAGE, "language.yaml")
    ],
    *[
        Slot(
            f"{verb} --config language.yaml --runs_dir out --ckpt_path {LANGUAGE}",
            ("language.yaml", LANGUAGE),
            LANGUAGE,
        )
        for verb in ("validate", "test")
    ],
]
"""Places that read what other programs wrote, and the newer formats of our own."""

SLOTS = [
    *PUBLISHED,
    Slot(f"sample --checkpoint {LAST} --num-samples 4 --output out.png", (LAST,), LAST),
    *[
        Slot(
            "sample --checkpoint teacher.safetensors --num-samples 4 --output out.npz",
            TEACHER,
            each,
        )
        for each in TEACHER
    ],
    Slot(f"{IMAGES}--checkpoint {LAST}", (LAST, "pictures"), LAST),
    *[
        Slot(
            f"{IMAGES}--checkpoint teacher.safetensors --output out.json",
            (*TEACHER, "pictures"),
            each,
        )
        for each in TEACHER
    ],
    Slot(
        f"{IMAGES}--samples samples.pt --output out.json", ("samples.pt", "pictures"), "samples.pt"
    ),
    Slot(f"{IMAGES}--samples samples.npz", ("samples.npz", "pictures"), "samples.npz"),
    Slot(f"{IMAGES}--samples other", ("pictures",), "pictures/a/0.png"),
    Slot(f"{IMAGES}--samples pictures", ("pictures",), "pictures/a/5.tiff"),
    *[
        Slot(f"{CODEC}--checkpoint codec.safetensors --output out.json", (*KEPT, "speech"), each)
        for each in (*KEPT, "speech/a/0.wav", "speech/a/1.flac")
    ],
    *[
        Slot(
            f"{CODEC}--degraded speech --transcripts speech/words.tsv --jsonl out.jsonl",
            ("speech",),
            each,
        )
        for each in ("speech/words.tsv", "speech/b/0.wav")
    ],
    *[
        Slot("encode --checkpoint codec.safetensors speech/a --output out", (*KEPT, "speech"), each)
        for each in (*KEPT, "speech/a/0.wav", "speech/a/1.flac")
    ],
    *[
        Slot(
            "decode --checkpoint codec.safetensors tokens/a/0.npz --output out",
            (*KEPT, "tokens"),
            each,
        )
        for each in (*KEPT, "tokens/a/0.npz", "tokens/a/0.npz", "tokens/a/0.json")
    ],
    *[
        Slot(
            f"pairs --checkpoint {BUNDLED[0]} --count 4 --steps 2 --output x.safetensors",
            BUNDLED,
            each,
        )
        for each in BUNDLED
    ],
    *[
        Slot("export --run runs/tiny --output out.safetensors", (RUN,), f"{RUN}/{each}")
        for each in ("checkpoints/last.ckpt", "run.json", "summary.json", "config.yaml")
    ],
    *[
        Slot(f"export --checkpoint codec.safetensors --to {to} --output out", KEPT, each)
        for to in ("transformers", "torch")
        for each in KEPT
    ],
    Slot("export --checkpoint teacher.safetensors --output out", TEACHER, TEACHER[1]),
    Slot("convert encodec encodec.th out.safetensors", ("encodec.th",), "encodec.th"),
    Slot(
        "convert speechtokenizer speechtokenizer.pt out.safetensors",
        ("speechtokenizer.pt",),
        "speechtokenizer.pt",
    ),
    *[Slot(f"report {RUN} --output out.html", (RUN,), f"{RUN}/{each}") for each in OF_RUN],
    *[
        Slot(f"report {SPOKEN} --output out.html", (SPOKEN,), f"{SPOKEN}/{each}")
        for each in ("samples/utterances.json", "summary.json")
    ],
    *[
        Slot(
            f"fit --config {name}.yaml --runs_dir out",
            (f"{name}.yaml", "speech", "pictures"),
            f"{name}.yaml",
        )
        for name in CONFIGS
    ],
    Slot(
        "fit --config scores.yaml --runs_dir out", ("scores.yaml", "pictures"), "pictures/b/3.png"
    ),
    *[Slot(LEARNT, ("tiny.yaml", *TEACHER), each) for each in TEACHER],
    *[
        Slot("fit --config speech.yaml --runs_dir out", ("speech.yaml", "speech"), each)
        for each in ("speech/a/0.wav", "speech/a/0.txt", "speech/c/1.flac")
    ],
    *[
        Slot(
            f"fit --config speech.yaml --runs_dir out --data.init_args.data_dir speech/{each}",
            ("speech.yaml", "speech"),
            f"speech/{each}",
        )
        for each in ("manifest.tsv", "manifest.jsonl")
    ],
    *[Slot(TAUGHT, ("tiny.yaml", "diffusers"), f"diffusers/{each}") for each in PIPELINE],
    Slot(PAIRED, ("tiny.yaml", "pairs.safetensors"), "pairs.safetensors"),
    *[
        Slot(
            f"{verb} --config tiny.yaml --runs_dir out --ckpt_path {LAST}",
            ("tiny.yaml", LAST),
            each,
        )
        for verb in ("fit", "validate", "test", "predict")
        for each in (LAST, LAST, "tiny.yaml")
    ],
]
"""Every place where a file is read."""
