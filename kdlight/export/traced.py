"""Encoder and decoder of a codec as graphs: programs of ``torch.export``, or ONNX files.

Each takes any batch and any whole number of frames: the encoder audio (B, 1, F * hop_length) and
gives codes (B, n_q, F), the decoder codes and gives audio. Padding to whole frames, and to
``LEAST`` of them, is the caller's: a program of ``torch.export`` stops at fewer with an assertion.
"""

import contextlib
import copy
import importlib.util
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlight.codec.codec import Codec
from kdlight.codec.convolution import fold_weight_norm
from kdlight.codec.foreign.codec import TransformersCodec
from kdlight.errors import InputError
from kdlight.storage.atomic import atomic_folder
from kdlight.storage.files import write_json

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
OPSET = 17
FRAMES = 60
"""Frames of the example that is traced."""
LEAST = 8
"""Frames that a program takes at least: layers that reflect need some samples to do so."""


class _Encode(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.encoder, self.quantizer = codec.encoder, codec.quantizer

    def forward(self, audio: Tensor) -> Tensor:
        codes: Tensor = self.quantizer.encode(self.encoder(audio))
        return codes


class _Decode(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.quantizer, self.decoder = codec.quantizer, codec.decoder

    def forward(self, codes: Tensor) -> Tensor:
        audio: Tensor = self.decoder(self.quantizer.decode(codes))
        return audio


def export_traced(codec: Codec, path: Path, kind: str) -> None:
    """Write ``encoder`` and ``decoder`` (.pt2 or .onnx) and ``codec.json`` into a folder.

    Args:
        codec: Any codec of layers that can be traced; weight normalisation is folded in the files.
        path: Folder; an earlier export there is replaced as a whole.
        kind: ``torch`` or ``onnx``.

    Raises:
        InputError: The package ``onnx`` is not installed, ONNX has no form for a layer (the
            spectrogram of frame-rate codecs), the codec is transformers' EnCodec or Mimi or codes
            pieces, or something else lives at ``path``.
    """
    if kind == "onnx" and importlib.util.find_spec("onnx") is None:
        raise InputError("export --to onnx needs the package onnx: pip install 'kdlight[onnx]'.")
    codec.require_whole(f"export --to {kind}")
    if isinstance(codec, TransformersCodec) and codec.padded_by_layers:
        name = type(codec.model).__name__
        raise InputError(
            f"export --to {kind}: layers of transformers' {name} pad by what they compute, which a "
            "program cannot hold: export --to transformers, or convert an EnCodec first."
        )
    codec = copy.deepcopy(codec).cpu().eval().requires_grad_(False)
    fold_weight_norm(codec)
    audio = torch.zeros(2, 1, FRAMES * codec.hop_length)
    codes = torch.zeros(2, codec.n_q, FRAMES, dtype=torch.int64)
    write = write_program if kind == "torch" else _write_onnx
    suffix = SUFFIXES[kind]
    description = {
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "n_q": codec.n_q,
        "codebook_size": codec.codebook_size,
        "least_frames": LEAST,
        "least_samples": LEAST * codec.hop_length,
        "encoder": "audio (B, 1, F * hop_length) float32 to codes (B, n_q, F) int64",
        "decoder": "codes (B, n_q, F) int64 to audio (B, 1, F * hop_length) float32",
    }
    with atomic_folder(path, "codec.json") as folder:
        write(_Encode(codec).eval(), audio, codec.hop_length, folder / f"encoder{suffix}")
        write(_Decode(codec).eval(), codes, 1, folder / f"decoder{suffix}")
        write_json(folder / "codec.json", description)


def write_program(part: nn.Module, example: Tensor, frame: int, path: Path) -> None:
    """Write a part that takes any batch of any number of frames.

    Args:
        part: The part.
        example: What it is traced with, (B, C, F * frame).
        frame: Numbers of a frame in the last dimension.
        path: File to write, ``.pt2``.
    """
    frames = frame * torch.export.Dim("frames", min=LEAST)
    shapes = ({0: torch.export.Dim("batch"), 2: frames},)
    with torch.no_grad(), _whole_lstm(), warnings.catch_warnings():
        # torch warns of the flat list of weights that its own LSTM keeps.
        warnings.simplefilter("ignore", UserWarning)
        program = torch.export.export(part, (example,), dynamic_shapes=shapes)
        # By way of memory: on a full disk the writer of torch ends the process.
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getbuffer())


def _write_onnx(part: nn.Module, example: Tensor, frame: int, path: Path) -> None:
    names = ("audio", "codes") if example.is_floating_point() else ("codes", "audio")
    # Where it fails, the exporter prints the graph it traced.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            # Not the converter of torch.export programs: it keeps an LSTM to the example's length.
            torch.onnx.export(
                part,
                (example,),
                str(path),
                dynamo=False,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_axes={name: {0: "batch", 2: f"length_of_{name}"} for name in names},
                opset_version=OPSET,
            )
        except torch.onnx.OnnxExporterError as error:
            layers = ", ".join(type(layer).__name__ for layer in part.children())
            reason = str(error).split(" [Caused by")[0].splitlines()[0].rstrip(".")
            raise InputError(
                f"export --to onnx: ONNX has no form for a part of {layers} ({reason}): "
                "export --to torch instead."
            ) from error


@contextlib.contextmanager
def _whole_lstm() -> Iterator[None]:
    """Tell ``torch.export`` the shapes of an LSTM, which it finds by unrolling the example's steps.

    That would bind the program to the example's length.
    """
    operator = torch.ops.aten.lstm.input
    kernels = dict(operator.py_kernels)
    operator._dispatch_cache.clear()
    operator.py_kernels.update(dict.fromkeys(kernels, _lstm_shapes))
    try:
        yield
    finally:
        operator.py_kernels.update(kernels)
        operator._dispatch_cache.clear()


def _lstm_shapes(
    x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], *settings: object
) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments of ``aten::lstm``; the fifth setting is whether it runs both ways."""
    hidden, cell = state
    width = hidden.shape[-1] * (2 if settings[4] else 1)
    return x.new_empty(*x.shape[:-1], width), torch.empty_like(hidden), torch.empty_like(cell)
