"""Places that read what kdlight wrote, and data."""

from tests.fuzz.slots.base import BROUGHT, BUNDLED, KEPT, LAST, RUN, SPOKEN, TEACHER, TINY, Slot

IMAGES = "evaluate images --data pictures --num-samples 6 --batch-size 3 "
CODEC = "evaluate codec --reference speech --metrics log_mel_l1 "
OF_RUN = ("config.yaml", "run.json", "summary.json", "metrics.csv", "samples/final_student_1.png")
PIPELINE = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
TAUGHT = (
    f"{TINY} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.diffusion.diffusers_teacher",'
    '"init_args":{"path_or_id":"diffusers"}} --model.init_args.student null'
)
LEARNT = (
    f"{TINY} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.diffusion.run_teacher",'
    '"init_args":{"checkpoint":"digits_teacher.safetensors"}}'
)
PAIRED = (
    "fit --config tiny.yaml --runs_dir out --data "
    '{"class_path":"datamodules.images.pairs.PairsDataModule","init_args":{"count":8,"steps":2,'
    '"file":"pairs.safetensors","batch_size":4,"steps_per_epoch":2,"teacher":'
    '{"class_path":"kdlight.teachers.diffusion.bundled_teacher","init_args":'
    '{"name":"digits_teacher"}},"reference":{"class_path":"datamodules.images.digits.'
    'DigitsDataModule"}}}'
)

OURS = [
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
            (f"{name}.yaml", *brought),
            f"{name}.yaml",
        )
        for name, brought in BROUGHT.items()
    ],
    Slot(
        "fit --config scores.yaml --runs_dir out", ("scores.yaml", "pictures"), "pictures/b/3.png"
    ),
    *[Slot(LEARNT, ("tiny.yaml", *BUNDLED), each) for each in BUNDLED],
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
