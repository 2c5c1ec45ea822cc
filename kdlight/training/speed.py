"""How the networks of a run are computed: settings that change the speed and not the method."""

from dataclasses import dataclass

import torch
from torch import nn

from kdlight.errors import InputError
from kdlight.training.base import DistillationModule
from kdlight.training.sharding import blocks_of, networks_of


@dataclass
class Speed:
    """Results are those of a plain run to rounding, not to the bit.

    Args:
        compile: Compile the blocks of every network (``torch.compile``); the first steps take
            minutes. Weights keep their names, so files do not depend on it.
        channels_last: Lay convolutional weights out as tensor cores read them.
        fused: One kernel for all of AdamW's update; not with float16, whose scale Lightning leaves
            to such an optimizer, behind the clipping.
        offload_teacher: Keep frozen networks on the host, of which each block visits the device
            when it is called; not for methods that follow gradients through a teacher.
    """

    compile: bool = False
    channels_last: bool = False
    fused: bool = False
    offload_teacher: bool = False

    def apply(self, module: DistillationModule, precision: str | int | None = None) -> None:
        """Prepare a method before it is trained.

        Args:
            module: The method.
            precision: The trainer's.

        Raises:
            InputError: ``fused`` with float16.
        """
        if self.fused and str(precision).startswith("16"):
            raise InputError("speed.fused: expected false with precision 16-mixed, found true.")
        for settings in module.optimization.values():
            settings.fused = settings.fused or self.fused
        module.offload_teacher = self.offload_teacher
        if not (self.compile or self.channels_last):
            return
        for network in networks_of(module):
            if self.channels_last and any(isinstance(m, nn.Conv2d) for m in network.modules()):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.compile:
                # Block by block: a hook inside of what is compiled as one would not be called.
                for block in blocks_of(network):
                    block.compile()
