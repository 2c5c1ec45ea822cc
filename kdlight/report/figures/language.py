"""The figures of models that write tokens."""

from kdlight.report.figures.column import Column

COLUMNS = (
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
        "ms_per_sample",
        "ms / sample",
        "Milliseconds to write one sample, many being written at once.",
        better="lower",
        narrow="ms per\nsample",
    ),
)
