"""The figures of generators: of images, and of points."""

from kdlight.report.figures.column import Column, share

COLUMNS = (
    Column(
        "nfe",
        "NFE",
        "Network evaluations for one sample. They are what sampling costs.",
        decimals=0,
    ),
    Column(
        "frechet_features",
        "Fréchet features",
        "Distance between samples and training set in the features of a classifier, in percent of "
        "the set's variance. It sees wrong shapes and lost variety.",
        "%",
        "lower",
        narrow="Fréchet\nfeatures",
        short=True,
    ),
    Column(
        "fid",
        "FID",
        "Fréchet distance in Inception's features, as papers give it. It falls with the number of "
        "samples; papers take 50,000.",
        better="lower",
        short=True,
    ),
    Column(
        "clean_fid",
        "FID, clean",
        "The FID of images resized as clean-fid does. It does not compare with the plain one.",
        better="lower",
    ),
    Column(
        "frechet_pixels",
        "Fréchet pixels",
        "Distance between the pixels of samples and training set, in percent of the set's "
        "variance. It sees wrong contrast, blur and noise.",
        "%",
        "lower",
        narrow="Fréchet\npixels",
        short=True,
    ),
    Column(
        "frechet_pooled_pixels",
        "Fréchet pixels, pooled to 8x8",
        "Distance between samples and training set averaged to 8x8 pixels, in percent of the "
        "set's variance. It sees wrong contrast, colour and layout.",
        "%",
        "lower",
        narrow="Fréchet\n8x8 px",
        short=True,
    ),
    Column(
        "sliced_wasserstein",
        "Sliced Wasserstein",
        "How far samples have to be moved to become the data, seen from many directions.",
        better="lower",
        narrow="Sliced\nWasserst.",
        short=True,
    ),
    share(
        "modes",
        "Modes",
        "Share of the data's clusters that get at least half of their fair share of the samples.",
        "higher",
        short=True,
    ),
    share(
        "strays",
        "Strays",
        "Share of the samples that lie far from every cluster of the data.",
        "lower",
        decimals=None,
        short=True,
    ),
    share(
        "crisp",
        "Crisp heads",
        "Share of the samples whose head is one of the known ones, drawn as it should be.",
        "higher",
        narrow="Crisp\nheads",
        short=True,
    ),
    share(
        "covered",
        "Heads seen",
        "Share of the known heads that are seen crisp among the samples.",
        "higher",
        narrow="Heads\nseen",
        short=True,
    ),
    share(
        "accuracy",
        "Accuracy",
        "Share of the samples in which a classifier sees the class that was asked for.",
        "higher",
        narrow="Accu-\nracy",
        short=True,
    ),
    share(
        "accuracy_forgotten",
        "Accuracy, forgotten",
        "Share of the samples asked for a forgotten class in which a classifier still sees it.",
        "lower",
        narrow="Acc.\nforgot.",
        short=True,
    ),
    share(
        "accuracy_retained",
        "Accuracy, retained",
        "Share of the samples asked for a class that is to be kept in which a classifier sees it.",
        "higher",
        narrow="Acc.\nkept",
        short=True,
    ),
    Column(
        "frechet_features_retained",
        "Fréchet features, retained",
        "Distance in features to the training images of the classes that are to be kept.",
        "%",
        "lower",
        narrow="Fréchet\nf. kept",
    ),
    Column(
        "frechet_pixels_retained",
        "Fréchet pixels, retained",
        "Distance in pixels to the training images of the classes that are to be kept.",
        "%",
        "lower",
        narrow="Fréchet\np. kept",
    ),
    Column(
        "frechet_pooled_pixels_retained",
        "Fréchet pixels pooled to 8x8, retained",
        "Distance in pooled pixels to the training images of the classes that are to be kept.",
        "%",
        "lower",
        narrow="Fréchet\n8x8 kept",
    ),
    share(
        "precision",
        "Precision",
        "Share of the samples that lie among the real images: do they look real?",
        "higher",
    ),
    share(
        "recall",
        "Recall",
        "Share of the real images that lie among the samples: are all kinds covered?",
        "higher",
    ),
    # Neither way is better: near is a copy, far is no digit at all.
    Column(
        "nearest",
        "Nearest",
        "Mean distance of a sample to the training image nearest to it. Near 0 it is a copy; far "
        "away it is no image of this kind.",
        narrow="Near-\nest",
    ),
    Column(
        "memorisation",
        "Memorisation",
        "Distance to the nearest training image over that to the nearest unseen one. 1 is right; "
        "near 0 the training images are repeated.",
        better="one",
        decimals=3,
        narrow="Memori-\nsation",
    ),
    Column(
        "variance",
        "Variance",
        "Variance of the samples over that of the data. 1 is right; below it they crowd around "
        "means.",
        better="one",
        decimals=3,
        narrow="Vari-\nance",
    ),
    Column(
        "kernel_features",
        "Kernel features",
        "Distance in the features of a classifier by a kernel. Around 0, also below it, is "
        "perfect, with few samples too.",
        better="lower",
    ),
    Column(
        "teacher_gap",
        "Teacher gap",
        "Mean squared difference to the teacher's sample from the same noise. It says how "
        "faithful the student is, not how good.",
        better="lower",
        narrow="Teacher\ngap",
    ),
    Column(
        "ms_per_image",
        "ms / image",
        "Milliseconds for one sample on the machine of the run.",
        better="lower",
        narrow="ms per\nimage",
        short=True,
    ),
    Column(
        "speed_up",
        "Speed-up",
        "How many times as fast as the teacher in full.",
        "x",
        "higher",
        narrow="Speed-\nup",
        short=True,
    ),
    Column(
        "non_finite",
        "Non-finite",
        "Samples that hold a NaN or an infinity and are left out of the figures.",
        decimals=0,
    ),
)
