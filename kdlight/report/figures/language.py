"""The figures of models that write tokens."""

from kdlight.report.figures.column import Column

COLUMNS = (
    Column(
        "golden_kl",
        "Golden KL",
        "Nats a token (of a classifier: a text) that the model is from the truth, "
        "KL(truth || model), exact: 0 is a perfect model.",
        better="lower",
        short=True,
        narrow="Golden\nKL",
    ),
    Column(
        "proxy_kl",
        "Proxy KL",
        "Nats a token that the model is from its teacher, KL(teacher || model): what distillation "
        "makes small. When it falls and the golden KL rises, the teacher is hacked.",
        better="lower",
        short=True,
        narrow="Proxy\nKL",
    ),
    Column(
        "acceptance",
        "Acceptance",
        "How often the teacher takes a token that the model drafts for it, from 0 to 1.",
        better="higher",
        decimals=4,
        short=True,
    ),
    Column(
        "block_efficiency",
        "Block efficiency",
        "Tokens that a call of the teacher gives when the model drafts for it.",
        better="higher",
        narrow="Block\nefficiency",
    ),
    Column(
        "ece",
        "ECE",
        "Gap between the model's confidence and how often it is right, from 0 to 1.",
        better="lower",
        short=True,
    ),
    Column(
        "smooth_ece",
        "Smooth ECE",
        "Gap between confidence and being right without bins, smoothed by the width that it has "
        "itself.",
        better="lower",
        narrow="Smooth\nECE",
    ),
    Column(
        "fitted_temperature",
        "Temperature",
        "What the model's logits are to be divided by for its confidence to be honest on held-out "
        "text: above 1 it is over-confident.",
        better="one",
        decimals=3,
    ),
    Column(
        "label_loyalty",
        "Label loyalty",
        "How often the model's likeliest token or class is the teacher's, from 0 to 1.",
        better="higher",
        narrow="Label\nloyalty",
    ),
    Column(
        "probability_loyalty",
        "Probability loyalty",
        "One minus the root of the Jensen-Shannon divergence from the teacher, in bits: 0 to 1.",
        better="higher",
        narrow="Probability\nloyalty",
    ),
    Column(
        "class_accuracy",
        "Accuracy",
        "How often the likeliest class is the label, from 0 to 1.",
        better="higher",
        decimals=4,
        short=True,
    ),
    Column(
        "nll",
        "NLL",
        "Nats a token of the samples under the true language. It ought to be the language's own "
        "entropy, the floor: above it the samples are unlikely, below it too typical.",
        decimals=3,
        short=True,
    ),
    Column(
        "bigram_tv",
        "Pairs",
        "How far the frequencies of pairs of neighbours are from the truth, from 0 to 1.",
        better="lower",
        short=True,
    ),
    Column(
        "bigram_tv_2",
        "Pairs, 2 apart",
        "How far the frequencies of pairs two places apart are from the truth, from 0 to 1.",
        better="lower",
        narrow="Pairs\n2 apart",
    ),
    Column(
        "bigram_tv_4",
        "Pairs, 4 apart",
        "How far the frequencies of pairs four places apart are from the truth, from 0 to 1.",
        better="lower",
        narrow="Pairs\n4 apart",
    ),
    Column(
        "heldout_nll",
        "Held-out NLL",
        "Nats a token of real text under the model: exact where it writes from left to right, an "
        "upper bound where it fills masks.",
        better="lower",
        decimals=3,
        narrow="held-out\nNLL",
        short=True,
    ),
    Column(
        "perplexity",
        "Perplexity",
        "The exponential of the held-out nats a token: among how many tokens the model wavers.",
        better="lower",
    ),
    Column(
        "generative_nll",
        "Generative NLL",
        "Nats a token of the samples under another model. Dull samples score low too: read it "
        "beside the entropy.",
        decimals=3,
        narrow="gen.\nNLL",
    ),
    Column(
        "generative_perplexity",
        "Generative perplexity",
        "The exponential of the samples' nats a token under another model; read it beside the "
        "entropy.",
        narrow="gen.\nppl",
    ),
    Column(
        "entropy",
        "Entropy",
        "Nats of the frequencies of single tokens in the samples. It ought to be that of real "
        "text, the floor: a low temperature shows as less.",
        decimals=3,
        short=True,
    ),
    Column(
        "entropy_row",
        "Entropy, row",
        "The mean entropy of the tokens within one sample, as papers on masked diffusion report "
        "it; it ought to be the floor.",
        decimals=3,
        narrow="entropy\na row",
    ),
    Column(
        "distinct_2",
        "Distinct pairs",
        "Share of the pairs in a sample that are not a repetition of one before; it ought to be "
        "the floor.",
        "%",
        scale=100.0,
        decimals=1,
        narrow="distinct\npairs",
    ),
    Column(
        "ms_per_sample",
        "ms / sample",
        "Milliseconds to write one sample, many being written at once.",
        better="lower",
        narrow="ms per\nsample",
    ),
    Column(
        "tokens_per_second",
        "Tokens / s",
        "Tokens written a second, many samples being written at once.",
        better="higher",
        narrow="tokens\n/ s",
    ),
    Column(
        "mean_golden_kl",
        "Golden KL, mean",
        "Nats a token from the exact law of a domain to the model, averaged over the domains.",
        better="lower",
        decimals=4,
        narrow="golden\nKL, mean",
    ),
    Column(
        "worst_golden_kl",
        "Golden KL, worst",
        "The same in the domain where the model is furthest from the law.",
        better="lower",
        decimals=4,
        narrow="golden\nKL, worst",
    ),
    Column(
        "entity_f1",
        "Entity F1",
        "Strict agreement of entities with the known ones: both ends and the type are the same; "
        "harmonic mean of precision and recall over all entities.",
        "%",
        better="higher",
        scale=100.0,
        decimals=1,
        narrow="entity\nF1",
    ),
    Column(
        "entity_precision",
        "Entity precision",
        "Share of the entities found that are right.",
        "%",
        better="higher",
        scale=100.0,
        decimals=1,
        narrow="entity\nprecision",
    ),
    Column(
        "entity_recall",
        "Entity recall",
        "Share of the known entities that are found.",
        "%",
        better="higher",
        scale=100.0,
        decimals=1,
        narrow="entity\nrecall",
    ),
)
