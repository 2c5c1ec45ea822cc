"""The figures of corrected lists of hypotheses, beside their word errors."""

from kdlight.report.figures.column import Column, share

COLUMNS = (
    share(
        "oracle_wer",
        "WER of the best hypothesis",
        "Words that are wrong in the best hypothesis of each list.",
        None,
        narrow="Best of\nlist",
    ),
    share(
        "compositional_wer",
        "WER of the best words",
        "Places of which no hypothesis of a list has the right word.",
        None,
        narrow="Best\nwords",
    ),
    Column(
        "noise_probe",
        "Level of noise in T(E)",
        "How much of the level of noise a ridge regression reads from what the prompt is told, "
        "R^2; 1 is all.",
        better="higher",
        decimals=3,
        narrow="Noise\nprobe",
    ),
)
