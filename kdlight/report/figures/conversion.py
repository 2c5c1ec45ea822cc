"""The figures of converted voices."""

from kdlight.report.figures.column import Column, share

COLUMNS = (
    Column(
        "mel_to_target",
        "Distance to the true conversion",
        "Mean absolute difference of log-mel spectrograms, in nats, to the same reading in the "
        "target voice.",
        better="lower",
        narrow="To\ntarget",
    ),
    Column(
        "mel_to_source",
        "Distance to the source",
        "Mean absolute difference of log-mel spectrograms, in nats, to what was converted.",
        better=None,
        narrow="To\nsource",
    ),
    share(
        "target_share",
        "Heard as the target",
        "Recordings that a classifier of voices takes for the target's.",
        "higher",
        narrow="Heard as\ntarget",
    ),
    share(
        "phone_probe",
        "Phones in the spectrogram",
        "How often a classifier fitted to recordings of other speakers reads the spoken sound.",
        "higher",
        narrow="Phones",
    ),
    share(
        "content_speaker",
        "Speakers in the content",
        "How often a linear classifier tells the speaker from the content.",
        "lower",
        narrow="Content:\nspeaker",
    ),
    share(
        "content_phone",
        "Phones in the content",
        "How often a linear classifier reads the spoken sound from the content.",
        "higher",
        narrow="Content:\nphone",
    ),
)
