"""A run's encoder or decoder as a file for other runtimes: ONNX, or a program of `torch.export`. Neither needs this package."""

from __future__ import annotations

import io
import json
import logging
import warnings
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gated_vae import __version__
from gated_vae.models.vae import GatedVAE
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import ending_of, write_bytes

FORMS = ("onnx", "pt2")
METADATA = "gated_vae.json"  # the extra file of a .pt2 that has what ONNX keeps as metadata


class Encoder(nn.Module):
    """uint8 images (n, H, W) to mean and std, float32 (n, M)."""

    def __init__(self, model: GatedVAE) -> None:
        super().__init__()
        self.layers = model.encoder

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `OpenRun.encode` gives."""
        mean, logvar = self.layers(images.float() * (1 / 255)).chunk(2, dim=1)
        return mean, (0.5 * logvar).exp()


class Decoder(nn.Module):
    """Codes float32 (n, M) to mean images, float32 (n, H, W) in 0 .. 1."""

    def __init__(self, model: GatedVAE) -> None:
        super().__init__()
        self.layers = model.decoder

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """What `OpenRun.decode` gives."""
        return torch.sigmoid(self.layers(codes))


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    bytes: int
    input: str  # names of what it takes and gives
    outputs: tuple[str, ...]
    # In the file beside the network: partition -> its first latent dimension and the one after its last; image shape; this
    # package's version.
    metadata: dict[str, Any]


def export(run: OpenRun, out: Path, *, decoder: bool = False) -> Export:
    """Write the encoder, or the decoder, in float32, of any number of images at a time; the same run gives the same bytes.

    ``encoder.onnx`` takes `images` and gives `mean` and `std`, ``decoder.onnx`` takes `codes` and gives `images`; a ``.pt2`` has
    arguments and results in this order. It is replaced if it is there.

    `GatedVAEError` when the name has another ending, the run has no weights, or ONNX is asked for and the package onnxscript is
    not there.
    """
    form = ending_of(out, FORMS)
    if form == "onnx" and find_spec("onnxscript") is None:
        remedy = "Install it: pip install onnxscript. Or give a name that ends in .pt2, which needs nothing else."
        raise GatedVAEError(f"{out} cannot be written.", "The package onnxscript is not installed.", remedy)
    model = deepcopy(run.model).cpu().requires_grad_(requires_grad=False)
    partitions = {name: [part.start, part.stop] for name, part in run.partitions.items()}
    metadata = {"partitions": partitions, "image_shape": [*run.image_shape], "version": __version__}
    if decoder:
        program = _program(Decoder(model), torch.zeros(2, model.config.latent_size))
    else:
        program = _program(Encoder(model), torch.zeros(2, *run.image_shape, dtype=torch.uint8))
    given, *found = ("codes", "images") if decoder else ("images", "mean", "std")
    data = _onnx(program, given, found, metadata) if form == "onnx" else _pt2(program, metadata)
    write_bytes(out, data)
    return Export(out, len(data), given, tuple(found), metadata)


def _program(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """The module's operations on any number of rows, without the places in source files that they come from."""
    rows = ({0: torch.export.Dim("n", min=1)},)
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=rows)
    for node in program.graph.nodes:
        for where in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(where, None)
    return program


def _pt2(program: torch.export.ExportedProgram, metadata: dict[str, Any]) -> bytes:
    program.example_inputs = None  # the one thing in the file that would be pickled
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _onnx(program: torch.export.ExportedProgram, given: str, found: list[str], metadata: dict[str, Any]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyTorch itself still uses
        made = torch.onnx.export(program, input_names=[given], output_names=found, dynamo=True, verbose=False)
    assert made is not None
    made.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    return made.model_proto.SerializeToString(deterministic=True)  # type: ignore[no-any-return]
