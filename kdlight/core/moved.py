"""Where classes went: files that users saved under an older version still load.

One table, read by whatever turns a class path into a class: configurations, specs and with them
checkpoints and models. A class that moves leaves a line here.
"""

from typing import Any

MODULES = {
    "datamodules.cifar10": "datamodules.images.cifar10",
    "datamodules.digits": "datamodules.images.digits",
    "datamodules.espeak": "datamodules.speech.voices.espeak",
    "datamodules.formant": "datamodules.speech.formant",
    "datamodules.formant_phones": "datamodules.speech.voices.formant_phones",
    "datamodules.formant_score": "datamodules.speech.voices.formant_score",
    "datamodules.formant_synthesis": "datamodules.speech.voices.formant_synthesis",
    "datamodules.hf_images": "datamodules.images.hf_images",
    "datamodules.image_folder": "datamodules.images.image_folder",
    "datamodules.images": "datamodules.images.base",
    "datamodules.latents": "datamodules.images.latents",
    "datamodules.librispeech": "datamodules.speech.librispeech",
    "datamodules.manifest": "datamodules.speech.manifest",
    "datamodules.mixture": "datamodules.images.mixture",
    "datamodules.mnist5k": "datamodules.images.mnist5k",
    "datamodules.noise": "datamodules.images.noise",
    "datamodules.pairs": "datamodules.images.pairs",
    "datamodules.piper": "datamodules.speech.voices.piper",
    "datamodules.recordings": "datamodules.speech.recordings",
    "datamodules.reference": "datamodules.images.reference",
    "datamodules.speech": "datamodules.speech.base",
    "datamodules.speech_folder": "datamodules.speech.speech_folder",
    "datamodules.streaming": "datamodules.images.streaming",
    "datamodules.synthetic_speech": "datamodules.speech.synthetic_speech",
    "datamodules.utterances": "datamodules.speech.utterances",
    "datamodules.voices": "datamodules.speech.voices.engines",
    "kdlight.audio": "kdlight.storage.audio",
    "kdlight.balance": "kdlight.training.balance",
    "kdlight.base": "kdlight.training.base",
    "kdlight.ema": "kdlight.training.ema",
    "kdlight.few_step": "modules.diffusion.few_step",
    "kdlight.files": "kdlight.storage.files",
    "kdlight.frozen": "kdlight.core.frozen",
    "kdlight.metrics.extractors": "kdlight.metrics.images.extractors",
    "kdlight.metrics.forgetting": "kdlight.metrics.images.forgetting",
    "kdlight.metrics.frechet": "kdlight.metrics.images.frechet",
    "kdlight.metrics.generation": "kdlight.metrics.images.generation",
    "kdlight.metrics.kernel": "kdlight.metrics.images.kernel",
    "kdlight.metrics.labels": "kdlight.metrics.images.labels",
    "kdlight.metrics.modes": "kdlight.metrics.images.modes",
    "kdlight.metrics.neighbours": "kdlight.metrics.images.neighbours",
    "kdlight.metrics.precision_recall": "kdlight.metrics.images.precision_recall",
    "kdlight.metrics.sigma_search": "kdlight.metrics.images.sigma_search",
    "kdlight.metrics.sliced": "kdlight.metrics.images.sliced",
    "kdlight.metrics.speech.tokens": "kdlight.metrics.tokens.statistics",
    "kdlight.metrics.teacher_gap": "kdlight.metrics.images.teacher_gap",
    "kdlight.metrics.token_meaning": "kdlight.metrics.tokens.meaning",
    "kdlight.metrics.token_recogniser": "kdlight.metrics.tokens.recogniser",
    "kdlight.metrics.tokens": "kdlight.metrics.tokens.information",
    "kdlight.metrics.variance": "kdlight.metrics.images.variance",
    "kdlight.muon": "kdlight.training.muon",
    "kdlight.networks.classifier": "kdlight.networks.images.classifier",
    "kdlight.networks.discriminator": "kdlight.networks.images.discriminator",
    "kdlight.networks.discriminators.judges": "kdlight.networks.speech.judges",
    "kdlight.networks.discriminators.period": "kdlight.networks.speech.period",
    "kdlight.networks.discriminators.scale": "kdlight.networks.speech.scale",
    "kdlight.networks.discriminators.spectrogram": "kdlight.networks.speech.spectrogram",
    "kdlight.networks.dit": "kdlight.networks.images.dit",
    "kdlight.networks.unet": "kdlight.networks.images.unet",
    "kdlight.networks.unet_condition": "kdlight.networks.images.unet_condition",
    "kdlight.noise": "kdlight.core.noise",
    "kdlight.optim": "kdlight.training.optim",
    "kdlight.ranks": "kdlight.core.ranks",
    "kdlight.score_distillation": "modules.diffusion.score_distillation",
    "kdlight.spec": "kdlight.core.spec",
    "kdlight.tokens": "kdlight.storage.tokens",
    "modules.classifier_training": "modules.vision.classifier_training",
}
"""Modules that moved as a whole, since 0.1.0."""

ROOMS = {
    "kdlight.callbacks.images": ("classification distilled encoders generation pictures probing"),
    "kdlight.callbacks.speech": (
        "codec collapse conversion correction spectrograms syllables synthesis token_probe "
        "token_recognition tokens utterances"
    ),
    "kdlight.callbacks.language": (
        "domain_report entity_report language_report mixture retrieval_report "
        "text_classification_report token_rows tokens_report written"
    ),
    "modules.language.discrete": (
        "dimensional_correlations distilled_decoding energy_diffusion masked_diffusion_training "
        "time_distillation"
    ),
    "modules.language.encoders": (
        "ranking_distillation representation_distillation text_classification"
    ),
    "modules.language.next_token": (
        "cached_distillation cross_tokenizer_distillation language_training logit_distillation "
        "on_policy_distillation student"
    ),
}
"""Modules that went from a folder into a room of it, by the room."""

MODULES |= {
    f"{room.rpartition('.')[0]}.{name}": f"{room}.{name}"
    for room, names in ROOMS.items()
    for name in names.split()
}

CLASSES = {
    "kdlight.diffusion.denoisers.VPDenoiser": "kdlight.diffusion.coordinates.VPDenoiser",
    "kdlight.diffusion.denoisers.FlowDenoiser": "kdlight.diffusion.coordinates.FlowDenoiser",
    "kdlight.teachers.latent.DiffusersAutoencoder": (
        "kdlight.teachers.pipelines.autoencoder.DiffusersAutoencoder"
    ),
    "kdlight.teachers.latent.Prompts": "kdlight.teachers.pipelines.text.Prompts",
    "kdlight.networks.lora.AdaptedUNet": "kdlight.networks.lora.AdaptedNetwork",
    "kdlight.diffusion.latent.GuidanceDenoiser": "kdlight.diffusion.denoisers.GuidedDenoiser",
}
"""Single classes and functions that moved out of a module that stayed."""


def current(path: str) -> str:
    """Today's name of a class path; ``path`` itself if nothing of it moved."""
    if path in CLASSES:
        return CLASSES[path]
    module, _, name = path.rpartition(".")
    moved = MODULES.get(module)
    return f"{moved}.{name}" if moved and name[:1].isupper() else path


def with_current_paths(settings: Any) -> Any:
    """Settings or a spec, nested as they are, with today's class paths."""
    if isinstance(settings, dict):
        return {key: with_current_paths(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_current_paths(value) for value in settings]
    return current(settings) if isinstance(settings, str) and "." in settings else settings
