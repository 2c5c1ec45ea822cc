"""Places that read what other programs wrote, and the newer formats of our own."""

from tests.fuzz.slots.base import KEPT, LANGUAGE, WRITER, Slot

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
