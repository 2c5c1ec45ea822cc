"""Places that language models, what is said of texts, and what is learnt from are read at."""

from tests.fuzz.slots.base import Slot

LARGE = ("large.safetensors", "large.json")
SMALL = ("small.safetensors", "small.json")
FOLDER = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
SCORE = "score texts/b.jsonl --batch-size 3 --output out.jsonl --teacher"
CUT = "--calibration long.txt --keep mlp=6 --output"
WRITE = "generate --checkpoint large.safetensors --num-samples 2 --prompt ab --output out.jsonl"
KNOWN = f"{WRITE} --draft trigram --draft-texts long.txt --draft-table table.json"
COMPLETE = "fit --config completions.yaml --runs_dir out"
READS = ("completions.yaml", "llama", "draft", "chats.jsonl")
RANK = "fit --config ranking.yaml --runs_dir out"
ROUNDS = "fit --config rounds.yaml --runs_dir out"
TOKENS = (
    "fit --config language.yaml --runs_dir out --trainer.callbacks null --data "
    '{"class_path":"datamodules.text.token_files.TokenFilesDataModule","init_args":{"path":"tokens",'
    '"codebook_size":8,"levels":2,"frames":4,"batch_size":2,"steps_per_epoch":2}} '
    "--model.init_args.denoiser.init_args.network.init_args.vocabulary 16 "
    "--model.init_args.denoiser.init_args.vocabulary 16 "
    "--model.init_args.denoiser.init_args.length 8"
)
CHOSEN = (
    "fit --config language.yaml --runs_dir out --data "
    '{"class_path":"datamodules.text.selected.SelectedDataModule","init_args":{"selection":'
    '"chosen.json","data":{"class_path":"datamodules.text.oracle_language.OracleLanguageDataModule",'
    '"init_args":{"language":{"class_path":"kdlight.discrete.oracle.HMMLanguage","init_args":'
    '{"states":2,"vocabulary":4,"length":4}},"num_samples":32,"num_heldout":16,"batch_size":8,'
    '"steps_per_epoch":4}}}} --trainer.callbacks null'
)

TEXT_MODELS = [
    *[
        Slot(
            f"{SCORE} large.safetensors --student small.safetensors",
            (*LARGE, *SMALL, "texts"),
            each,
        )
        for each in (*LARGE, SMALL[1], "texts/b.jsonl")
    ],
    *[Slot(f"{SCORE} llama --length 8", ("llama", "texts"), f"llama/{each}") for each in FOLDER],
    *[
        Slot(f"select scores.jsonl --by {by} --output out{suffix}", ("scores.jsonl", "texts"), each)
        for by, suffix, each in (
            ("difference", ".json", "scores.jsonl"),
            ("robust", ".json", "scores.jsonl"),
            ("likelihood", ".jsonl", "scores.jsonl"),
            ("likelihood", ".jsonl", "texts/b.jsonl"),
        )
    ],
    *[
        Slot(f"prune large.safetensors {CUT} out.safetensors", (*LARGE, "long.txt"), each)
        for each in (*LARGE, "long.txt")
    ],
    *[
        Slot(f"prune llama --length 8 {CUT} out", ("llama", "long.txt"), f"llama/{each}")
        for each in FOLDER
    ],
    *[
        Slot(f"{WRITE} --draft small.safetensors", (*LARGE, *SMALL), each)
        for each in (*LARGE, *SMALL)
    ],
    *[
        Slot(
            "generate --checkpoint llama --length 8 --num-samples 2 --draft draft "
            "--output out.jsonl",
            ("llama", "draft"),
            f"draft/{each}",
        )
        for each in FOLDER
    ],
    *[
        Slot(KNOWN, (*LARGE, "long.txt", "table.json"), each)
        for each in ("long.txt", "table.json", "table.json")
    ],
    *[
        Slot(COMPLETE, READS, each)
        for each in (
            *("completions.yaml", "chats.jsonl", "chats.jsonl"),
            *(f"llama/{each}" for each in (*FOLDER, "chat_template.jinja")),
        )
    ],
    *[
        Slot(RANK, ("ranking.yaml", "ranked.jsonl"), each)
        for each in ("ranking.yaml", "ranked.jsonl", "ranked.jsonl")
    ],
    *[
        Slot(ROUNDS, ("rounds.yaml", "ledger.jsonl"), each)
        for each in ("rounds.yaml", "ledger.jsonl", "ledger.jsonl")
    ],
    *[
        Slot(TOKENS, ("language.yaml", "tokens"), f"tokens/{each}")
        for each in ("a/0.npz", "a/0.json")
    ],
    Slot(CHOSEN, ("language.yaml", "chosen.json"), "chosen.json"),
]
"""Places of language."""
