"""The figures of speech codecs and of their tokens."""

from kdlight.report.figures.column import Column, share

COLUMNS = (
    Column(
        "kbps", "kbit/s", "Kilobits of tokens for one second of speech.", decimals=2, short=True
    ),
    Column(
        "log_mel_l1",
        "Log-mel L1",
        "Mean difference between the log-mel spectrograms of original and decoded speech.",
        better="lower",
        narrow="Log-mel\nL1",
        short=True,
    ),
    Column(
        "mel_distance",
        "Mel distance",
        "Difference between mel spectrograms, summed over seven window lengths as DAC's authors "
        "do.",
        better="lower",
        narrow="Mel\ndist.",
    ),
    Column(
        "stft_distance",
        "STFT distance",
        "Difference between log spectra, without the ear's scale of pitch.",
        better="lower",
        narrow="STFT\ndist.",
    ),
    Column(
        "si_sdr",
        "SI-SDR, dB",
        "Loudness of the signal over that of the error, wave against wave. Speech can sound right "
        "with a low one.",
        better="higher",
        decimals=2,
        narrow="SI-SDR\ndB",
    ),
    Column(
        "stoi",
        "STOI",
        "How well the words can be understood, from 0 to 1, as a model of hearing predicts it.",
        better="higher",
        decimals=3,
        short=True,
    ),
    Column(
        "estoi",
        "ESTOI",
        "How well the words can be understood, as STOI, but stricter where noise comes and goes.",
        better="higher",
        decimals=3,
    ),
    Column(
        "pesq_wb",
        "PESQ, wide band",
        "How listeners would rate the quality, 1 to 4.64, as a telephone standard predicts it.",
        better="higher",
        decimals=2,
        narrow="PESQ\nwb",
        short=True,
    ),
    Column(
        "pesq_nb",
        "PESQ, narrow band",
        "How listeners would rate the quality in the narrow band of old telephones, 1 to 4.55.",
        better="higher",
        decimals=2,
        narrow="PESQ\nnb",
    ),
    *(
        Column(
            key,
            "ViSQOL, lattice",
            "How listeners would rate the quality, 1 to 5, as a learned model predicts it.",
            better="higher",
            decimals=2,
            narrow="ViSQOL\nlatt.",
        )
        for key in ("visqol", "visqol_lattice")  # the first in summaries of 0.1.0
    ),
    Column(
        "visqol_polynomial",
        "ViSQOL, polynomial",
        "How listeners would rate the quality, 1 to 5, by an older curve than the lattice's; the "
        "two do not compare.",
        better="higher",
        decimals=2,
        narrow="ViSQOL\npoly.",
    ),
    Column(
        "f0_correlation",
        "F0 correlation",
        "How well the melody of the voice follows the original's; 1 is the same.",
        better="higher",
        decimals=3,
        narrow="F0\ncorr.",
    ),
    Column(
        "f0_rmse",
        "F0 error, Hz",
        "How far the pitch of the voice is off where both are voiced.",
        better="lower",
        narrow="F0 err.\nHz",
    ),
    Column(
        "dnsmos_ovrl",
        "DNSMOS",
        "Quality, 1 to 5, as a network rates it that hears the decoded speech alone.",
        better="higher",
        decimals=2,
    ),
    Column(
        "dnsmos_sig",
        "DNSMOS, signal",
        "The voice, 1 to 5, as a network rates it that hears the decoded speech alone.",
        better="higher",
        decimals=2,
        narrow="DNSMOS\nsig.",
    ),
    Column(
        "dnsmos_bak",
        "DNSMOS, noise",
        "The background, 1 to 5, as a network rates it that hears the decoded speech alone; high "
        "is quiet.",
        better="higher",
        decimals=2,
        narrow="DNSMOS\nnoise",
    ),
    Column(
        "dnsmos_p808",
        "DNSMOS, P.808",
        "Quality as a network predicts the votes of a crowd.",
        better="higher",
        decimals=2,
        narrow="DNSMOS\nP.808",
    ),
    Column(
        "speaker_similarity",
        "Same speaker",
        "How alike the two voices are to a network that tells speakers apart; 1 is the same.",
        better="higher",
        decimals=3,
        narrow="Same\nspeaker",
        short=True,
    ),
    share(
        "wer",
        "WER",
        "Words that are wrong: of decoded speech those that a recogniser hears, its own mistakes "
        "included.",
        "lower",
        short=True,
    ),
    share(
        "wil",
        "WIL",
        "Information of the words that is lost to a recogniser of the decoded speech.",
        "lower",
    ),
    share(
        "cer",
        "CER",
        "Letters that a recogniser gets wrong in the decoded speech, its own mistakes included.",
        "lower",
    ),
    share(
        "wer_reference",
        "WER against original",
        "Words that a recogniser hears otherwise than in the original speech.",
        "lower",
        narrow="WER\nto orig.",
    ),
    share(
        "wil_reference",
        "WIL against original",
        "Information of the words lost, with what is heard in the original as the truth.",
        "lower",
        narrow="WIL\nto orig.",
    ),
    share(
        "cer_reference",
        "CER against original",
        "Letters that a recogniser hears otherwise than in the original speech.",
        "lower",
        narrow="CER\nto orig.",
    ),
    share(
        "phone_information",
        "Phone information of the level",
        "How much this level's tokens alone tell about which sound is spoken; 100 % is all.",
        "higher",
        narrow="Phone\ninfo.",
        short=True,
    ),
    share(
        "phone_accuracy",
        "Phone probe of the level",
        "How often a linear classifier reads the spoken sound from this level's tokens alone.",
        "higher",
        narrow="Phone\nprobe",
    ),
    share(
        "token_cer",
        "Letter errors from the level",
        "Letters that a recogniser trained on this level's tokens alone gets wrong.",
        "lower",
        narrow="Token\nCER",
    ),
    share(
        "token_wer",
        "Word errors from the level",
        "Words that a recogniser trained on this level's tokens alone gets wrong.",
        "lower",
        narrow="Token\nWER",
    ),
    share(
        "speaker_accuracy",
        "Speaker probe of the level",
        "How often a linear classifier tells the speaker from this level's tokens alone. Lower is "
        "better of a first level, which is to hold words only; the voice is in the others.",
        "lower",
        narrow="Speaker\nprobe",
    ),
    share(
        "teacher_unit_information",
        "Information about the teacher's units",
        "How much this level's tokens tell about the clusters of the teacher's features. It rises "
        "with any pull to the teacher and is no measure of quality.",
        None,
        narrow="Teacher\nunits",
    ),
    Column(
        "rtf_encode",
        "Real-time factor, encoder",
        "Seconds in which one thread encodes one second of speech.",
        better="lower",
        narrow="RTF\nenc.",
    ),
    Column(
        "rtf_decode",
        "Real-time factor, decoder",
        "Seconds in which one thread decodes one second of speech.",
        better="lower",
        narrow="RTF\ndec.",
    ),
)
