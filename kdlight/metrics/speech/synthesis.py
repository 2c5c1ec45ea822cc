"""How near are drawn spectrograms to speech? Figures that no loss of a synthesiser optimises."""

import torch
from torch import Tensor

from kdlight.metrics.base import SampleMetric
from kdlight.metrics.images.frechet import frechet_distance

SIDE, STRIDE = 8, 4
"""Bands and frames of a patch, and the distance between two."""
MODULATION = (4.0, 16.0)
"""Hz: how fast the bands of speech rise and fall with its syllables and phones."""


def patches(mel: Tensor) -> Tensor:
    """All patches of a spectrogram (bands, F), (N, SIDE^2); none if it is shorter than one."""
    if mel.shape[1] < SIDE:
        return mel.new_zeros(0, SIDE * SIDE)
    cut = mel.unfold(0, SIDE, STRIDE).unfold(1, SIDE, STRIDE)
    return cut.reshape(-1, SIDE * SIDE)


def modulation_energy(mel: Tensor, frame_rate: float) -> Tensor:
    """Sum over bands of the squares of a spectrogram's (bands, F) courses at 4 to 16 Hz, ()."""
    spectrum = torch.fft.rfft(mel.double() - mel.double().mean(dim=1, keepdim=True), dim=1)
    rates = torch.fft.rfftfreq(mel.shape[1], 1 / frame_rate, device=mel.device)
    inside = (rates >= MODULATION[0]) & (rates <= MODULATION[1])
    energy: Tensor = spectrum[:, inside].abs().square().sum() / mel.shape[1]
    return energy


class SpectrogramScores(SampleMetric):
    """Drawn spectrograms beside the true ones of the same sentences.

    ``compute()`` returns

    - ``mel_patches``: Frechet distance of patches of 8 bands by 8 frames, percent of the true
      patches' variance: is the texture that of speech?
    - ``modulation``: energy of the bands at 4 to 16 Hz over that of the true ones: 1 is right,
      less is smoothed over.
    - ``mel_l1``: mean difference in natural logarithms, where frames belong together.

    Args:
        frame_rate: Frames a second.
    """

    higher_is_better = False
    names = ("mel_patches", "modulation", "mel_l1")
    count: Tensor
    total: Tensor
    squares: Tensor
    energy: Tensor
    difference: Tensor
    cells: Tensor

    def __init__(self, frame_rate: float) -> None:
        super().__init__()
        self.frame_rate = frame_rate
        width = SIDE * SIDE
        # Drawn first, true second.
        self.add_sums(count=(2,), total=(2, width), squares=(2, width, width), energy=(2,))
        self.add_sums(difference=(), cells=())

    def update(self, drawn: Tensor, true: Tensor, scale: Tensor | None = None) -> None:
        """Add one sentence.

        Args:
            drawn: Normalised spectrogram (bands, F).
            true: The same of the true one, of any length.
            scale: Of each band, (bands,), natural logarithms; None where frames do not belong
                together, as with other durations.
        """
        if not drawn.isfinite().all():
            self.add_to("non_finite", 1)
            return
        for side, mel in enumerate((drawn, true)):
            rows = patches(mel).double()
            self.count[side] += len(rows)
            self.total[side] += rows.sum(dim=0)
            self.squares[side] += rows.T @ rows
            self.energy[side] += modulation_energy(mel, self.frame_rate)
        if scale is not None:
            self.difference += ((drawn - true).abs() * scale[:, None]).double().sum()
            self.cells += drawn.numel()

    def enough(self) -> bool:
        return bool((self.count > SIDE * SIDE).all())

    def figures(self) -> dict[str, Tensor]:
        means = self.total / self.count[:, None]
        outer = means[:, :, None] * means[:, None, :]
        drawn, true = self.squares / self.count[:, None, None] - outer
        distance = frechet_distance(means[0], drawn, means[1], true)
        return {
            "mel_patches": 100 * distance / true.trace(),
            "modulation": self.energy[0] / self.energy[1],
            "mel_l1": self.difference / self.cells,
        }


class PhoneProbe:
    """Which phone is it? Ridge regression from frames and their neighbours to phones.

    Learnt once from true spectrograms; what it hears in drawn ones says whether they are
    intelligible, whatever their texture.

    Args:
        phones: Number of phone numbers.
        reach: Neighbours to each side.
        penalty: Of the squares, per frame.
    """

    def __init__(self, phones: int, reach: int = 3, penalty: float = 1e-2) -> None:
        self.phones, self.reach, self.penalty = phones, reach, penalty
        self._weights: Tensor | None = None

    def learn(self, mels: list[Tensor], phones: list[Tensor]) -> None:
        """Learn from spectrograms (bands, F) and the phone numbers (F,) of their frames."""
        x = torch.cat([self._inputs(mel) for mel in mels])
        labels = torch.cat(phones)
        # Every phone counts alike, however often it comes.
        rare = 1 / torch.bincount(labels, minlength=self.phones).clamp(min=1)
        weight = rare[labels].double()[:, None].sqrt()
        y = torch.nn.functional.one_hot(labels, self.phones).double() * weight
        x = x * weight
        ridge = self.penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self._weights = torch.linalg.solve(x.T @ x + ridge * x.square().mean(), x.T @ y)

    def heard(self, mel: Tensor) -> Tensor:
        """The likeliest phone of each frame, (F,)."""
        assert self._weights is not None
        return (self._inputs(mel) @ self._weights).argmax(dim=1)

    def _inputs(self, mel: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(mel.double()[None], (self.reach, self.reach), "replicate")
        windows = padded[0].unfold(1, 2 * self.reach + 1, 1).transpose(0, 1).flatten(1)
        return torch.cat([windows, windows.new_ones(len(windows), 1)], dim=1)
