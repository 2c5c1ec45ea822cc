"""A model that writes, from Python."""

from dataclasses import dataclass

import torch

from kdlight.commands.parsing.values import device_named, seed_of, text_of, whole_of
from kdlight.commands.shared.processes import Process
from kdlight.commands.shared.writing import Texts, start_of, with_sampler, write_texts
from kdlight.discrete.text_generator import TextGenerator


@dataclass(frozen=True)
class Writer:
    """A language model that writes text, or tokens where they are no text.

    Attributes:
        module: The generator with its tokenizer.
    """

    module: TextGenerator

    def sample(
        self,
        count: int = 4,
        steps: int | None = None,
        seed: int = 0,
        prompt: str | None = None,
        infill: str | None = None,
        sampler: str | None = None,
        guidance_scale: float = 0.0,
        batch_size: int = 100,
        device: str | torch.device = "cpu",
    ) -> Texts:
        """Write, the same as ``kdlight generate`` with the same seed.

        Args:
            count: How many.
            steps: Sampling steps; those it was made for by default.
            seed: Seed of the set, any whole number.
            prompt: How every sample begins.
            infill: A text with gaps: ``[MASK]`` is one token, ``[MASK:7]`` seven.
            sampler: ``first_hitting``, ``ancestral`` or ``confidence``, for a masked model.
            guidance_scale: Pulls a masked model towards what is given, 0 for not.
            batch_size: Samples at once; it changes no sample.
            device: Where to compute; the samples come back to the CPU.

        Raises:
            InputError: A number is none or out of range, a text does not fit, the model has no such
                sampler, or the device is not there.
        """
        count, batch_size = whole_of(count, "count", 1), whole_of(batch_size, "batch_size", 1)
        seed = seed_of(seed)
        steps = None if steps is None else whole_of(steps, "steps", 1)
        generator = with_sampler(self.module.generator, sampler)
        writer = TextGenerator(generator, self.module.tokenizer).eval()
        texts = text_of(prompt, "prompt"), text_of(infill, "infill")
        starts = [start_of(writer, *texts)]
        process = Process(0, 1, device_named(device))
        writer = writer.to(process.device)
        found = write_texts(writer, starts, count, steps, seed, batch_size, process, guidance_scale)
        assert found is not None
        return found
