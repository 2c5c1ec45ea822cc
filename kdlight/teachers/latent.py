"""Latent diffusion models of diffusers, from DiT and Stable Diffusion to Flux, as teachers.

A pipeline folder has a network, a scheduler, an autoencoder, and text encoders with their
tokenizers. The network becomes a denoiser of latents; the others stay as they are and are read
again from the folder wherever a model of theirs is rebuilt, so no checkpoint holds them.
"""

from kdlight.diffusion.coordinates import FlowDenoiser
from kdlight.diffusion.latent import LatentGenerator
from kdlight.diffusion.samplers import Algorithm
from kdlight.errors import InputError
from kdlight.storage.files import sha256_of_all
from kdlight.teachers.pipelines.autoencoder import DiffusersAutoencoder
from kdlight.teachers.pipelines.folder import network_part, open_pipeline, parts_of
from kdlight.teachers.pipelines.network import in_coordinates, read_network
from kdlight.teachers.pipelines.text import Prompts


def latent_teacher(
    path_or_id: str,
    prompts: list[str] | None = None,
    steps: int = 50,
    algorithm: Algorithm = "euler",
    guidance_scale: float = 7.5,
    size: int | None = None,
) -> LatentGenerator:
    """A latent model of diffusers: class-conditional (DiT) or text-to-image.

    Args:
        path_or_id: A pipeline folder, or an id on the Hugging Face hub. Only safetensors weights
            are read.
        prompts: What is drawn when samples are evaluated, one prompt after the other; null for
            the empty prompt. A model of classes takes none.
        steps: Default number of sampling steps.
        algorithm: Sampler.
        guidance_scale: Guidance of the teacher's own samples, and of what methods learn from it;
            1 is none. It is multiplied by a method's own ``guidance_scale``.
        size: Side of the pictures, pixels; null for the size that the network was trained for.

    Raises:
        InputError: The folder is missing or damaged, or the model is of another kind.
    """
    root = open_pipeline(path_or_id)
    labelled = parts_of(root)["pipeline"] == "DiTPipeline"
    table = None if labelled else Prompts(path_or_id, prompts or [""])
    network = read_network(root, {} if table is None else table.null, size)
    denoiser, grid = in_coordinates(root, network)
    if isinstance(denoiser, FlowDenoiser) and algorithm == "heun":
        raise InputError(
            "algorithm: expected euler or dpmpp_2m for a model of flow matching, whose walk starts "
            "at a noise level that heun's differences do not survive, found heun."
        )
    digest = sha256_of_all(sorted((root / network_part(root)).glob("*.safetensors")))
    denoiser.provenance = {"source": path_or_id, "sha256": digest}
    return LatentGenerator(
        network.guidance(denoiser, guidance_scale),
        grid,
        network.shape,
        DiffusersAutoencoder(path_or_id),
        table,
        algorithm,
        (steps,),
    ).eval()
