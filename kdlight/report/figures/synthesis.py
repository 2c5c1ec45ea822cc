"""The figures of speech synthesisers."""

from kdlight.report.figures.column import Column, share

TRUE = "Spoken with true durations and pitch. "
FREE = "Spoken with predicted durations and pitch. "
PATCHES = (
    "Fréchet distance of patches of 8 bands by 8 frames of drawn and exact spectrograms, in "
    "percent of the latter's variance: is the texture that of speech?"
)
MODULATION = (
    "Energy of the bands at 4 to 16 Hz over that of exact synthesis: 1 is right, less is smoothed "
    "over."
)
REAL_TIME = (
    "Seconds of speech that one thread draws in a second of CPU time, front end included, without "
    "the step from spectrogram to audio."
)

COLUMNS = (
    Column("mel_patches", "Mel patches", TRUE + PATCHES, "%", "lower", short=True),
    Column("modulation", "Modulation", TRUE + MODULATION, better="one", decimals=3, short=True),
    share(
        "phones_heard",
        "Phones heard",
        TRUE + "Share of frames whose phone a linear probe hears that was learnt from exact "
        "synthesis in other voices.",
        "higher",
        narrow="Phones\nheard",
        short=True,
    ),
    Column(
        "mel_l1",
        "Mel L1",
        TRUE + "Mean difference from the exact synthesis, natural logarithms. Smoothing makes it "
        "small.",
        better="lower",
    ),
    Column("mel_patches_free", "Mel patches, free", FREE + PATCHES, "%", "lower"),
    Column("modulation_free", "Modulation, free", FREE + MODULATION, better="one", decimals=3),
    Column(
        "duration_error",
        "Durations, ms",
        "Mean difference of predicted from true durations of phones. Part of it is chance: two "
        "readings differ.",
        better="lower",
        decimals=1,
        narrow="Dur.\nms",
    ),
    Column(
        "pitch_error",
        "Pitch",
        "Root mean square difference of predicted from true pitch, percent.",
        "%",
        "lower",
        decimals=2,
    ),
    Column(
        "times_real_time",
        "Times real time",
        REAL_TIME,
        better="higher",
        decimals=0,
        narrow="x real\ntime",
        short=True,
    ),
)
