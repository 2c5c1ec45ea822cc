"""Studies of language distillation that :mod:`tests.benchmarks.seeds` runs: which teacher, whose
data, which attention. Minutes of CPU each, on languages whose probabilities are known."""

import json

from tests.benchmarks.language_experiments import LOOK, recipe, taught_by

WIDTHS = (8, 16, 32, 64)
"""Of the teachers; the student's is 8. One layer all, trained alike."""
SHORT = ["--model.init_args.iterations", "200", "--model.init_args.ema_half_life", "20"]
LANGUAGE = {
    "class_path": "kdlight.discrete.oracle.HMMLanguage",
    "init_args": {"states": 8, "vocabulary": 16, "length": 16},
}
TRUTH = {
    "class_path": "kdlight.discrete.autoregressive.OracleAutoregressive",
    "init_args": {"language": LANGUAGE},
}


def sized(width: int) -> list[str]:
    """A teacher of that width."""
    network = "--model.init_args.model.init_args.network.init_args."
    return [
        *recipe("oracle/language_teacher"),
        *(f"{network}width", str(width), f"{network}depth", "1"),
        *("--model.init_args.iterations", "300", "--trainer.callbacks", LOOK),
    ]


def sized_name(width: int) -> str:
    """The run of :func:`sized`."""
    return f"oracle_teacher_{width}"


def written_by(*writers: dict[str, object]) -> list[str]:
    """A student of 2,000 sentences that these wrote, in turns."""
    return [*recipe("oracle/seq_kd"), *SHORT, "--data.init_args.writers", json.dumps(writers)]


def writer(width: int) -> dict[str, object]:
    """The teacher of that width."""
    path = f"runs/{sized_name(width)}/version_0/checkpoints/last.ckpt"
    function = "kdlight.teachers.tokens.language_teacher"
    return {"class_path": function, "init_args": {"checkpoint": path}}


TAGGED = [
    *("--data.init_args.language.init_args.length", "64", "--data.init_args.shortest", "64"),
    *("--data.init_args.batch_size", "32", "--data.init_args.num_heldout", "500"),
]
ENCODER = {
    **{"vocab_size": 18, "pad_token_id": 16, "max_position_embeddings": 96},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
# Positions of Longformer begin behind the padding's number, so that number is no token.
TEACHER_ENCODER = {
    "model_type": "bert",
    **{"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"intermediate_size": 128, **ENCODER},
}
STUDENT_ENCODER = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 64, **ENCODER},
}
ATTENTIONS = {
    "full": {"model_type": "bert"},
    "window": {"model_type": "longformer", "attention_window": 8},
    "landmarks": {"model_type": "nystromformer", "num_landmarks": 8, "segment_means_seq_len": 64},
}
"""A student half as deep as its teacher, by how its tokens attend: to all, to eight neighbours
(Longformer), through eight means of segments (Nystroemformer)."""


def attending(name: str, *options: str) -> list[str]:
    """A tagger with that attention, from its teacher's outputs."""
    return [
        *recipe("oracle/tags"),
        *TAGGED,
        "--model.init_args.student.init_args.config",
        json.dumps({**ATTENTIONS[name], **STUDENT_ENCODER}),
        "--model.init_args.teachers",
        json.dumps([TAGGER]),
        *("--model.init_args.matching", "null", "--model.init_args.intermediate", "0"),
        *("--model.init_args.iterations", "200", "--model.init_args.ema_half_life", "20"),
        *options,
    ]


TAGGER = {
    "class_path": "kdlight.teachers.text_classifiers.classifier_teacher",
    "init_args": {"checkpoint": "runs/oracle_long_tags_teacher/version_0/checkpoints/last.ckpt"},
}

EXPERIMENTS: dict[str, dict[str, list[str]]] = {
    # One student, teachers of 1 to 46 times its weights, and the language itself as the teacher;
    # ``python -m tests.benchmarks.capacity`` fits the law. Ten seconds a run.
    "oracle_capacity": {
        f"teacher_{width}": [
            *recipe("oracle/forward_kl"),
            *taught_by(sized_name(width)),
            *SHORT,
            *("--trainer.callbacks", LOOK),
        ]
        for width in WIDTHS
    }
    | {
        "truth": [
            *recipe("oracle/forward_kl"),
            *("--model.init_args.teacher", json.dumps(TRUTH)),
            *SHORT,
            *("--trainer.callbacks", LOOK),
        ]
    },
    # Whose sentences: the language's, a strong teacher's, a weak one's, half of each.
    "oracle_frontier": {
        "language": written_by(TRUTH),
        "strong": written_by(writer(WIDTHS[-1])),
        "weak": written_by(writer(WIDTHS[0])),
        "mixed": written_by(writer(WIDTHS[-1]), writer(WIDTHS[0])),
    },
    # Students whose attention is cheaper than their teacher's, on the tags of 64 tokens; ``python
    # -m tests.benchmarks.attention`` times them over lengths.
    "oracle_attention": {
        "full": attending("full"),
        "window": attending("window"),
        "landmarks": attending("landmarks"),
        "labels_alone": attending(
            "full", "--model.init_args.prediction", "0", "--model.init_args.label", "1"
        ),
    },
    # What layers add to outputs, and outputs to labels, on texts of four languages.
    "oracle_representations": {
        "outputs": [
            *recipe("oracle/representations"),
            *("--model.init_args.matching", "null", "--model.init_args.intermediate", "0"),
        ],
        "mi_alpha": recipe("oracle/representations"),
        "labels_alone": [
            *recipe("oracle/representations"),
            *("--model.init_args.matching", "null", "--model.init_args.intermediate", "0"),
            *("--model.init_args.prediction", "0", "--model.init_args.label", "1"),
        ],
    },
}

TEACHERS = {sized_name(width): sized(width) for width in WIDTHS}

BEFORE: dict[str, dict[str, list[str]]] = {
    "oracle_capacity": TEACHERS,
    "oracle_frontier": TEACHERS,
    "oracle_attention": {
        "oracle_long_tags_teacher": [
            *recipe("oracle/tags_teacher"),
            *TAGGED,
            "--model.init_args.classifier.init_args.config",
            json.dumps(TEACHER_ENCODER),
            *("--model.init_args.iterations", "400"),
        ],
    },
    "oracle_representations": {"oracle_classes_teacher": recipe("oracle/classes_teacher")},
}
"""Runs that the arms of a study start from, trained once into ``runs/``."""
