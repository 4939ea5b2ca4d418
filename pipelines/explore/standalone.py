"""A run's decoder as one HTML file: sliders and swaps that a browser computes by itself, offline, without a server."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from gated_vae.models.figures.sheet import colours_of
from gated_vae.pipelines.evaluation.labels import random_ids
from gated_vae.pipelines.evaluation.opened import DEAD_KL, OpenRun
from gated_vae.preprocessing.errors import GatedVAEError, UsageError, check_seed
from gated_vae.preprocessing.files import ending_of, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

REACH = 3.0  # of the sliders, in the prior's standard deviations
WITHIN = 5e-4  # of pixels in 0 .. 1, on codes that are tried: half of what is promised for all
MOST_BYTES = 30_000_000  # of a page: a browser keeps three to five times as much
MOST_SAMPLES = 1000
_NAME = 200  # characters of a sample's name
_TRIED = 64  # codes anywhere within the sliders' reach, beside those of the samples

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a decoder as the page computes it; images have their channels last."""

    # float32 (taps, inputs, outputs): one tap of a linear layer, the 16 of a transposed convolution of 4x4, stride 2, padding 1.
    weight: Floats
    bias: Floats  # float32 (outputs,)
    relu: bool = False  # whether one follows

    def scaled(self, scale: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> Layer:
        """The layer with its outputs multiplied by `scale` and moved by `shift`, (outputs,) each."""
        weight, bias = self.weight * scale, self.bias * scale + shift
        return replace(self, weight=weight.astype(np.float32), bias=bias.astype(np.float32))

    def channels_last(self, channels: int) -> Layer:
        """The layer with outputs that lie as (channels, pixels) put as (pixels, channels)."""
        order = np.arange(len(self.bias)).reshape(channels, -1).T.ravel()
        return replace(self, weight=self.weight[:, :, order], bias=self.bias[order])

    def quantised(self) -> tuple[npt.NDArray[np.int16], Floats]:
        """Weights as int16 and what they are multiplied by, one number per output."""
        scale = np.abs(self.weight).max(axis=(0, 1)) / np.float32(np.iinfo(np.int16).max)
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        return np.rint(self.weight / scale).astype(np.int16), scale


@dataclass(frozen=True)
class Page:
    """Where the page is and what is in it."""

    path: Path
    size: int  # bytes
    samples: str  # whose codes it starts from, in words
    pictures: int  # how many of the store's images are in it
    weights: str  # `int16` (one scale per output), or `float32` where that would not do
    error: float  # the largest difference from the run's own decoder that was found, of pixels in 0 .. 1


@dataclass(frozen=True, eq=False)
class _Samples:
    """What the page starts from: n codes and, unless images are `missing`, these, their names and the KL of every dimension."""

    said: str
    mean: Floats
    missing: str = ""
    std: Floats | None = None
    images: npt.NDArray[np.uint8] | None = None
    names: Sequence[str] = ()
    kl: Sequence[float] | None = None


def write_page(run: OpenRun, out: Path, *, samples: int = 64, seed: int = 0) -> Page:
    """Write the page; the same run, samples and seed give the same bytes.

    `UsageError` when the name has another ending, or the number of samples is not 1 to 1,000. `GatedVAEError` when the page would
    be larger than 30 MB, the run has no weights or none that are finite, or a decoder of somebody's own has layers that the page
    cannot compute.

    Parameters
    ----------
    samples:
        So many random images of the run's store are in it, or all where there are fewer. Where the store is gone or was replaced,
        so many codes are drawn from the prior instead.
    """
    ending_of(out, ("html",))
    if not 1 <= samples <= MOST_SAMPLES:
        raise UsageError(f"{out} is not written.", f"Got {samples} samples.", f"Give 1 to {MOST_SAMPLES:,}.")
    shown = _samples(run, samples, check_seed(seed))
    layers = decoder_layers(run)
    weights, error, stored = _stored(run, layers, shown.mean)
    page = _html(run, shown, stored)
    if len(page) > MOST_BYTES:
        parameters, pixels = sum(layer.weight.size for layer in layers), "x".join(map(str, run.image_shape))
        why = f"The page would have {len(page) / 1e6:.0f} MB, {MOST_BYTES / 1e6:.0f} are the most: its decoder has {parameters:,}"
        why += f" weights, its images are {pixels}."
        remedy = "Train with smaller --hidden or the network conv, or leave --html out: then Python decodes."
        raise GatedVAEError(f"{out} is not written.", why, remedy)
    write_bytes(out, page)
    return Page(out, len(page), shown.said + shown.missing, len(shown.names), weights, error)


def _samples(run: OpenRun, count: int, seed: int) -> _Samples:
    try:
        store = run.store
    except GatedVAEError as error:
        size = run.files.config.model.latent_size
        prior = np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)
        return _Samples(f"{count:,} codes drawn from the prior", prior, missing=f", without images: {error.what}")
    ids = random_ids(count, len(store), seed)
    with store.open_samples() as file:
        named = "image" in file.schema_arrow.names
        images = file.read(["image"]).column(0).take(ids).to_pylist() if named else [""] * len(ids)
    kl = run.sampled[1].kl()  # as traversals are sorted by
    codes = run.encode(store.images, ids)
    names = [f"{number}: {image}"[:_NAME] if named else str(number) for number, image in zip(ids, images, strict=True)]
    said, pixels = f"{len(ids):,} of {len(store):,} images", store.images.take(ids, axis=0)
    return _Samples(said, codes.mean, std=codes.std, images=pixels, names=names, kl=kl)


def decoder_layers(run: OpenRun) -> list[Layer]:
    """A run's decoder in evaluation mode, batch normalisation folded into the layer before; `GatedVAEError` where it has others."""
    layers: list[Layer] = []
    for module in getattr(run.model.decoder, "layers", [run.model.decoder]):
        match module:
            case nn.Linear():
                layers.append(Layer(_array(module.weight).T[None], _array(module.bias)))
            case nn.BatchNorm1d() if layers:
                parts = (module.weight, module.bias, module.running_mean, module.running_var)
                gain, shift, mean, variance = (_array(part).astype(np.float64) for part in parts)
                scale = gain / np.sqrt(variance + module.eps)
                layers[-1] = layers[-1].scaled(scale, shift - mean * scale)
            case nn.ReLU() if layers:
                layers[-1] = replace(layers[-1], relu=True)
            case nn.ConvTranspose2d(kernel_size=(4, 4), stride=(2, 2), padding=(1, 1)) if layers:
                inputs, outputs = module.in_channels, module.out_channels
                if len(layers[-1].weight) == 1:
                    layers[-1] = layers[-1].channels_last(inputs)
                weight = _array(module.weight).transpose(2, 3, 0, 1).reshape(16, inputs, outputs)
                layers.append(Layer(weight, _array(module.bias)))
            case nn.Unflatten():
                pass
            case _:
                why = f"Its decoder has a layer {type(module).__name__}, which the page cannot compute."
                raise _refused(run, why, "Train with the network fc or conv, or leave --html out: then Python decodes.")
    return layers


def _array(tensor: torch.Tensor | None) -> Floats:
    assert tensor is not None
    return tensor.detach().float().cpu().numpy()


def _stored(run: OpenRun, layers: Sequence[Layer], codes: Floats) -> tuple[str, float, list[dict[str, Any]]]:
    """How weights are stored, how far the pictures are from the run's own then, and the layers as the page reads them."""
    if not all(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all() for layer in layers):
        raise _refused(run, "Its decoder's weights are not all finite.")
    anywhere = np.random.default_rng(0).uniform(-REACH, REACH, (_TRIED, codes.shape[1])).astype(np.float32)
    tried = np.concatenate([codes, anywhere])
    expected, error = run.decode(tried), np.inf
    for kind in ("int16", "float32"):
        kept, stored = [], []
        for layer in layers:
            weight, scale = layer.quantised() if kind == "int16" else (layer.weight, np.ones_like(layer.bias))
            kept.append(replace(layer, weight=weight * scale))
            told = {"taps": len(weight), "relu": layer.relu, "weight": _base64(weight), "scale": _base64(scale)}
            stored.append({**told, "kind": kind, "bias": _base64(layer.bias)})
        error = float(np.abs(_decode(kept, tried, run.image_shape) - expected).max())
        if error <= WITHIN:
            return kind, error, stored
    raise _refused(run, f"Its pictures would differ by {error:.2g} from the run's.")


def _refused(run: OpenRun, why: str, remedy: str = "Train it again, or with the network fc or conv.") -> GatedVAEError:
    return GatedVAEError(f"{run.files.path} cannot be shown in a page.", why, remedy)


@torch.no_grad()
def _decode(layers: Sequence[Layer], codes: Floats, shape: tuple[int, ...]) -> Floats:
    """What the page makes of codes (n, M)."""
    x = torch.from_numpy(codes)
    halvings = sum(len(layer.weight) == 16 for layer in layers)
    side = [size >> halvings for size in shape[:2]]
    for layer in layers:
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        if len(weight) == 1:
            x = x @ weight[0] + bias
        else:
            rows = x.reshape(len(x), *side, -1).movedim(-1, 1) if x.dim() == 2 else x
            x = F.conv_transpose2d(rows, weight.reshape(4, 4, *weight.shape[1:]).permute(2, 3, 0, 1), bias, 2, 1)
        x = x.relu() if layer.relu else x
    return torch.sigmoid(x.movedim(1, -1) if x.dim() == 4 else x).reshape(-1, *shape).numpy()


def _base64(array: npt.NDArray[Any]) -> str:
    """An array's numbers, little-endian, in its own order."""
    return b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode()


def _html(run: OpenRun, shown: _Samples, layers: Sequence[dict[str, Any]]) -> bytes:
    size, kl = shown.mean.shape[1], shown.kl
    order = sorted(range(size), key=lambda dim: -kl[dim]) if kl else range(size)
    optional = {"std": shown.std, "images": shown.images}
    data = {
        "shape": [*run.image_shape],
        "reach": REACH,
        "dead": DEAD_KL,
        "kl": shown.kl,
        "partitions": [
            {"name": name, "colour": colour, "dims": [dim for dim in order if dim in range(size)[part]]}
            for (name, part), colour in zip(run.partitions.items(), colours_of(run.partitions).values(), strict=True)
        ],
        "names": [*shown.names] or [f"prior {number}" for number in range(len(shown.mean))],
        "mean": _base64(shown.mean),
        **{name: None if array is None else _base64(array) for name, array in optional.items()},
        "layers": layers,
    }
    folder = resources.files(__package__)
    decoder, page, template = (
        folder.joinpath(name).read_text("utf-8") for name in ("decoder.js", "page.js", "page.html")
    )
    script = decoder + page
    parts = {
        "title": escape(f"Run {run.files.path.resolve().name}"),
        "said": escape(shown.said),
        "hash": b64encode(sha256(script.encode()).digest()).decode(),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),  # no name may end the element
        "script": script,
    }
    return Template(template).substitute(parts).encode()
