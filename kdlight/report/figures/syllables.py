"""The figures of boundaries between syllables."""

from kdlight.report.figures.column import Column, share

NUCLEUS = "One boundary between the vowels of neighbouring syllables, wherever it lies there. "
BOUNDARY = "Every start and end of a true syllable, to 50 ms unless the run says otherwise. "
PRECISION = "How many of the boundaries found are true."
RECALL = "How many of the true boundaries are found."
F1 = "The harmonic mean of precision and recall."
REFINED = "F1 after boundaries were moved and merged, as encode --segments does."
R_VALUE = "As F1, but boundaries strewn everywhere cost more; 100 % is perfect."
OVER = "How many more boundaries are found than there are; 0 % is right."

COLUMNS = (
    share("nucleus_precision", "Precision", NUCLEUS + PRECISION, "higher", short=True),
    share("nucleus_recall", "Recall", NUCLEUS + RECALL, "higher", short=True),
    share("nucleus_f1", "Boundaries F1", NUCLEUS + F1, "higher", narrow="F1", short=True),
    share("nucleus_r_value", "R-value", NUCLEUS + R_VALUE, "higher", short=True),
    share("nucleus_over_segmentation", "Too many", NUCLEUS + OVER, None),
    share(
        "refined_f1", "Refined F1", NUCLEUS + REFINED, "higher", narrow="Refined\nF1", short=True
    ),
    share("boundary_precision", "Edges precision", BOUNDARY + PRECISION, "higher"),
    share("boundary_recall", "Edges recall", BOUNDARY + RECALL, "higher"),
    share("boundary_f1", "Edges F1", BOUNDARY + F1, "higher", narrow="Edges\nF1", short=True),
    share("boundary_r_value", "Edges R-value", BOUNDARY + R_VALUE, "higher"),
    share("boundary_over_segmentation", "Edges too many", BOUNDARY + OVER, None),
    Column(
        "segments_per_second",
        "Segments / s",
        "Segments a second of speech.",
        decimals=2,
        narrow="per\nsecond",
        short=True,
    ),
)
