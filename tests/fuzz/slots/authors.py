"""Places that read the files of models' authors, speech models and classifiers."""

from tests.fuzz.slots.base import Slot

CODECS = {
    "dac": ("dac.pth",),
    "mimi": ("mimi.safetensors", "mimi_config.json"),
    "wavtokenizer": ("wavtokenizer.ckpt",),
    "bigcodec": ("bigcodec.pt",),
    "xcodec": ("xcodec.pth",),
}
WRITERS = {
    "mdlm": ("mdlm", ("mdlm",), ("mdlm/config.json", "mdlm/model.safetensors")),
    "smdm": ("mdm.safetensors --heads 2", ("mdm.safetensors",), ("mdm.safetensors",)),
}
CUT = "encode --segments --checkpoint syllables.safetensors speech/a --output out"
SPEAKS = "sample --checkpoint voice.safetensors --text hh-ah-l-ow --output out.wav"
VISION = "fit --config vision.yaml --runs_dir out"
TORCHVISION = (
    f"{VISION} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.classifiers.torchvision_classifier","init_args":'
    '{"name":"mobilenet_v3_small","weights":"mobile.pth","num_classes":2,'
    '"settings":{"width_mult":0.25}}}'
)
OWN = (
    f"{VISION} --model.init_args.teacher "
    '{"class_path":"kdlight.teachers.classifiers.run_classifier","init_args":'
    '{"checkpoint":"seen.safetensors"}}'
)

AUTHORS = [
    *[
        Slot(f"convert {kind} {files[0]} out.safetensors", files, each)
        for kind, files in CODECS.items()
        for each in files
    ],
    *[
        Slot(f"convert {kind} {words} out.safetensors", needs, each)
        for kind, (words, needs, victims) in WRITERS.items()
        for each in victims
    ],
    Slot(
        "convert mdlm mdlm out.safetensors --tokenizer tokenizer.json",
        ("mdlm", "tokenizer.json"),
        "tokenizer.json",
    ),
    *[
        Slot(CUT, ("syllables.safetensors", "syllables.json", "speech"), each)
        for each in ("syllables.safetensors", "syllables.json", "speech/a/0.wav")
    ],
    *[
        Slot(SPEAKS, ("voice.safetensors", "voice.json"), each)
        for each in ("voice.safetensors", "voice.json")
    ],
    *[
        Slot(VISION, ("vision.yaml", "classifier", "pictures"), each)
        for each in (
            *("vision.yaml", "classifier/config.json", "classifier/model.safetensors"),
            *("classifier/preprocessor_config.json", "pictures/a/2.png"),
        )
    ],
    Slot(TORCHVISION, ("vision.yaml", "mobile.pth", "classifier", "pictures"), "mobile.pth"),
    *[
        Slot(OWN, ("vision.yaml", "classifier", "pictures", "seen.safetensors", "seen.json"), each)
        for each in ("seen.safetensors", "seen.json")
    ],
    Slot("fit --config synthesis.yaml --runs_dir out", ("synthesis.yaml",), "synthesis.yaml"),
]
"""Places of authors' files, of speech and of pictures."""
