"""The figures of classifiers."""

from kdlight.report.figures.column import Column, share

OF_GROUP = "Mean over the classes with {} training images of the share that is recognised."

COLUMNS = (
    share(
        "top1",
        "Top-1",
        "Share of the held-out images whose class is the likeliest one.",
        "higher",
        short=True,
    ),
    share(
        "top5",
        "Top-5",
        "Share of the held-out images whose class is among the five likeliest.",
        "higher",
    ),
    share(
        "balanced_accuracy",
        "Balanced accuracy",
        "Mean over the classes of the share of their held-out images that is recognised, so that "
        "rare classes count as much as common ones.",
        "higher",
        narrow="Balanced\naccuracy",
    ),
    share("accuracy_many", "Many", OF_GROUP.format("many"), "higher"),
    share("accuracy_medium", "Medium", OF_GROUP.format("a middling number of"), "higher"),
    share("accuracy_few", "Few", OF_GROUP.format("few"), "higher", short=True),
    share("accuracy_seen", "Seen", "Mean over the classes with training images.", "higher"),
    share(
        "accuracy_unseen",
        "Unseen",
        "Mean over the classes without training images, known by their texts, of the share that is "
        "recognised.",
        "higher",
        short=True,
    ),
    share(
        "agreement",
        "Agreement",
        "Share of the held-out images that student and teacher put into the same class, right or "
        "wrong.",
        "higher",
        narrow="Agree-\nment",
        short=True,
    ),
    Column(
        "teacher_kl",
        "Teacher KL",
        "Nats an image that the student is from its teacher, KL(teacher || student).",
        better="lower",
        narrow="Teacher\nKL",
    ),
    share(
        "hallucination",
        "Hallucination",
        "Probability that a sampled caption of a held-out image names another class than its own.",
        "lower",
        narrow="Halluci-\nnation",
        short=True,
    ),
    Column(
        "caption_nll",
        "Caption NLL",
        "Nats a word of the right captions of held-out images.",
        better="lower",
        narrow="Caption\nNLL",
    ),
    Column(
        "class_nll",
        "Class NLL",
        "Nats an image of the true class under the model.",
        better="lower",
        narrow="Class\nNLL",
    ),
    share(
        "linear_probe",
        "Linear probe",
        "Share of the held-out images that logistic regression on the encoder's features, "
        "standardised, recognises.",
        "higher",
        narrow="Linear\nprobe",
        short=True,
    ),
    share(
        "few_label_accuracy",
        "Few labels",
        "Share of the held-out images that is recognised after the encoder was fine-tuned on a few "
        "labels of each class.",
        "higher",
        narrow="Few\nlabels",
        short=True,
    ),
    Column(
        "feature_error",
        "Feature error",
        "Mean squared error to the teacher's features of held-out images, in percent of their "
        "variance.",
        "%",
        "lower",
        scale=100.0,
        decimals=1,
        narrow="Feature\nerror",
        short=True,
    ),
    Column("images", "Images", "Images that the network was trained on.", decimals=0),
    Column(
        "head_similarity",
        "Heads alike",
        "Mean cosine of the attention maps of two heads of a block: 1 if all heads attend alike.",
        better="lower",
        decimals=3,
        narrow="Heads\nalike",
    ),
    Column(
        "parameters",
        "Weights",
        "Number of weights of the network.",
        decimals=0,
    ),
)
