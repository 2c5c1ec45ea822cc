"""The experiments of language distillation that :mod:`tests.benchmarks.seeds` runs, on languages
whose probabilities are known."""

ON_POLICY = "modules.language.next_token.on_policy_distillation.OnPolicyDistillation"


def recipe(path: str) -> list[str]:
    """The options of a recipe as it stands."""
    return ["--config", f"configs/{path}.yaml"]


def taught_by(run: str) -> list[str]:
    """The options that make a run of ``runs/`` the teacher."""
    path = f"runs/{run}/version_0/checkpoints/last.ckpt"
    return ["--model.init_args.teacher.init_args.checkpoint", path]


LOOK = (
    '[{"class_path": "kdlight.callbacks.language.language_report.LanguageReport", '
    '"init_args": {"num_samples": 500, "preview": 500}}]'
)

# Sentences with a prompt of 4 tokens, which is neither learnt nor measured.
HACKED = [
    *recipe("oracle/on_policy"),
    *taught_by("oracle_hacking_teacher"),
    *("--model.init_args.student.init_args.network.init_args.width", "24"),
    *("--model.init_args.iterations", "400", "--model.init_args.ema_half_life", "20"),
    *("--data.init_args.batch_size", "32", "--data.init_args.steps_per_epoch", "20"),
    *("--data.init_args.prompt", "4", "--trainer.callbacks", LOOK),
]


def hacked(sentences: int, student: float = 0.0, teacher: float = 0.0) -> list[str]:
    """A student of a faulty teacher, on so many sentences, in these shares written anew."""
    return [
        *HACKED,
        *("--data.init_args.num_samples", str(sentences)),
        *("--model.init_args.student_share", str(student)),
        *("--model.init_args.teacher_share", str(teacher)),
    ]


DRAFTED = [
    *recipe("oracle/distillspec"),
    *taught_by("oracle_target"),
    *("--model.init_args.student_share", "0.0", "--model.init_args.iterations", "200"),
    *("--model.init_args.ema_half_life", "20", "--trainer.callbacks", LOOK),
]

FIRST = [
    *recipe("oracle/first"),
    *taught_by("oracle_sure_teacher"),
    *("--model.init_args.iterations", "400", "--model.init_args.ema_half_life", "50"),
]
ALL_TOKENS = ["--model.init_args.objective.init_args.k", "16"]
# The fitted_temperature in the teacher's summary.json.
RECALIBRATED = ["--model.init_args.objective.init_args.teacher_temperature", "3.0"]

PGKD = recipe("rounds/pgkd")
READ_ME = recipe("oracle/read_me")
FSPAD = recipe("oracle/fspad")
FEATURES = "--model.init_args.draft.init_args."

EXPERIMENTS: dict[str, dict[str, list[str]]] = {
    # What a small student of one teacher becomes; train configs/oracle/language_teacher.yaml
    # first. Twenty seconds a run. Data alone is the control.
    "oracle_losses": {
        "forward_kl": recipe("oracle/forward_kl"),
        "data_alone": [*recipe("oracle/draft"), "--model.init_args.iterations", "800"],
        **{
            name: recipe(f"oracle/{name}")
            for name in (
                *("reverse_kl", "jsd", "taid", "sinkhorn", "dac_kl", "first", "on_policy"),
            )
        },
    },
    # Does a student copy the faults of a teacher that has learnt 1,000 sentences by heart? Half a
    # minute a run; ``python -m tests.benchmarks.hacking`` reads the curves.
    "oracle_hacking": {
        "few": hacked(64),
        "more": hacked(512),
        "many": hacked(50_000),
        "student_writes": hacked(64, student=1.0),
        "teacher_writes": hacked(64, teacher=1.0),
    },
    # A draft goes on for 200 updates: on sentences, or on its target's laws of sentences or of
    # what it writes itself; ``python -m tests.benchmarks.drafting`` measures what it saves.
    # ``--metric acceptance`` judges on what drafts are for.
    "oracle_drafts": {
        # The likelihood drowns the divergence, which no weight takes away; the clip grows with it.
        "sentences": [
            *DRAFTED,
            *("--model.init_args.likelihood", "10000", "--model.init_args.optimizer.clip", "10000"),
        ],
        "off_policy": DRAFTED,
        "on_policy": [*DRAFTED, "--model.init_args.student_share", "1.0"],
    },
    # Against a teacher that is far too sure.
    "oracle_first": {
        "top_5": FIRST,
        "top_5_recalibrated": [*FIRST, *RECALIBRATED],
        "all": [*FIRST, *ALL_TOKENS],
        "all_recalibrated": [*FIRST, *ALL_TOKENS, *RECALIBRATED],
    },
    # Experts of a dense model with a router that learns, with one as it was drawn, and a dense
    # model of as many active units; all tune for 180 updates. ``--metric worst_golden_kl``.
    "oracle_read_me": {
        "read_me": READ_ME,
        "untrained_router": [*READ_ME, "--model.init_args.router_iterations", "0"],
        "dense": recipe("oracle/read_me_dense"),
    },
    # What FSPAD adds to EAGLE's draft, one thing at a time; ``--metric block_efficiency``.
    "oracle_fspad": {
        "fspad": FSPAD,
        "eagle": [*FSPAD, f"{FEATURES}sampling", "false", f"{FEATURES}alignment", "false"],
        "sampling": [*FSPAD, f"{FEATURES}alignment", "false"],
        "alignment": [*FSPAD, f"{FEATURES}sampling", "false"],
    },
    # What a teacher writes: by the student's mistakes, evenly, or nothing; a quarter of a minute a
    # run. ``--metric class_accuracy``.
    "rounds_pgkd": {
        "evenly": [*PGKD, "--model.init_args.wishes", "kdlight.selection.feedback.Evenly"],
        "feedback": PGKD,
        "labels_alone": [*PGKD, "--model.init_args.asks", "0"],
    },
    # What sorted probabilities of a model of bytes add to the likelihood of characters.
    "characters_tokenizers": {
        # The likelihood drowns the distance, which no weight takes away; the clip grows with it,
        # from 1 at the recipe's weight of 0.67.
        "likelihood": [
            *recipe("characters/cross_tokenizer"),
            *("--model.init_args.likelihood", "10000", "--model.init_args.optimizer.clip", "15000"),
        ],
        "uld": recipe("characters/cross_tokenizer"),
    },
}

BEFORE: dict[str, dict[str, list[str]]] = {
    "oracle_hacking": {
        "oracle_hacking_teacher": [
            *recipe("oracle/language_teacher"),
            *("--data.init_args.num_samples", "1000", "--data.init_args.steps_per_epoch", "100"),
            *("--model.init_args.iterations", "400"),
        ],
    },
    "oracle_drafts": {
        "oracle_draft": recipe("oracle/draft"),
        "oracle_target": [
            *recipe("oracle/language_teacher"),
            *("--model.init_args.model.init_args.network.init_args.width", "64"),
            *("--model.init_args.model.init_args.network.init_args.depth", "4"),
            *("--model.init_args.optimizer.lr", "0.003", "--model.init_args.iterations", "150"),
            *("--trainer.callbacks", LOOK),
        ],
    },
    "oracle_first": {
        "oracle_sure_teacher": [
            *recipe("oracle/language_teacher"),
            *("--data.init_args.num_samples", "1000", "--data.init_args.steps_per_epoch", "100"),
        ],
    },
    "oracle_read_me": {"oracle_ddk_teacher": recipe("oracle/ddk_teacher")},
    "oracle_fspad": {"oracle_language_teacher": recipe("oracle/language_teacher")},
    "characters_tokenizers": {
        "characters_bytes_teacher": recipe("characters/bytes_teacher"),
    },
}
"""Runs that the arms of an experiment start from, trained once into ``runs/``."""

DENSE = "runs/oracle_ddk_teacher/version_0/checkpoints/last.ckpt"
CUT: dict[str, dict[str, list[str]]] = {
    "oracle_read_me": {
        "runs/pruned/read_me.safetensors": [DENSE, "--experts", "0.5"],
        "runs/pruned/read_me_dense.safetensors": [DENSE, "--keep", "mlp=128"],
    },
}
"""Models that ``prune`` makes of those runs, once."""
