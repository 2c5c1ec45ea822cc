"""A tiny converter of timbre."""

import torch

from kdlight.codec.log_mel import LogMel
from kdlight.diffusion.coordinates import FlowDenoiser
from kdlight.diffusion.sigmas import FlowGrid
from kdlight.networks.speech.speech_dit import SpeechDiT
from kdlight.networks.speech.timbre_converter import TimbreConverter


def tiny_converter(rate: int = 8000, hop: int = 160) -> TimbreConverter:
    """10 bands, 4 tokens, 2 steps; what starts at zero is made to say something."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        network = SpeechDiT(10, 10, 8, 1, 2, 3)
        torch.nn.init.normal_(network.output.weight, std=0.2)
    denoiser = FlowDenoiser(network, 1000.0, sigma_data=1.0)
    mel = LogMel(10, rate, hop, 2 * hop)
    return TimbreConverter(denoiser, FlowGrid(), mel, codes=4, steps=2)
