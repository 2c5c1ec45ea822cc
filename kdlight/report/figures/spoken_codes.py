"""The figures of models that write a codec's codes from text, and fill its levels."""

from kdlight.report.figures.column import Column, share

COLUMNS = (
    share(
        "phone_error",
        "Phone errors",
        "Edits between the phones that a probe hears in the written codes and those of the text, "
        "over the latter. Of recordings it is the floor.",
        "lower",
        narrow="Phone\nerrors",
        short=True,
    ),
    Column(
        "length_ratio",
        "Length",
        "Frames that were written over those of the recordings: 1 is right.",
        better="one",
        decimals=3,
    ),
    share(
        "repeats",
        "Repeats",
        "Codes that repeat the one before; loops show here.",
        None,
    ),
    Column(
        "code_loss",
        "Nats a code",
        "Of the recordings, each code told all before it.",
        better="lower",
        decimals=3,
        narrow="Nats\na code",
    ),
    Column(
        "mel_to_codec",
        "Distance to the codec",
        "Mean absolute difference of log-mel spectrograms, in nats, to what the codec makes of "
        "the true codes.",
        better="lower",
        narrow="To\ncodec",
        short=True,
    ),
    Column(
        "level_bigram_tv",
        "Pairs of the second level",
        "How far the frequencies of pairs of neighbours are from the true ones, from 0 to 1.",
        better="lower",
        decimals=3,
        narrow="Pairs",
        short=True,
    ),
    share("codes_right", "Codes right", "Filled codes that are the true ones.", "higher"),
)
