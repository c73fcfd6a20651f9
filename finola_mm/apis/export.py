"""Build the part of a trained model that is exported, and write it in a format."""

import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..datasets import evenly_spaced, find_images
from ..datasets.decoding import decode
from ..engine import find_checkpoint, load_weights
from ..errors import UserError
from ..functional.compat import EXPORTS_ONNX
from . import export_formats as formats
from .export_layers import Classifier, Detector, Encoder, simplify_for_export
from .inference import load_metainfo

DETECTOR = 'finola_mm.MobileFormerDETR'
CLASSIFIER = 'ImageClassifier'
PARTS = ('encoder', 'classifier', 'detector')
TOLERANCE = 1e-3  # maximum difference relative to the largest value of an output


def check_packages(format: str) -> None:
    """Import the packages of a format, before the work starts."""
    if 'onnx' in formats.PACKAGES[format] and not EXPORTS_ONNX:
        raise UserError(f'torch {torch.__version__} is installed; ONNX export requires 2.6')
    for name in formats.PACKAGES[format]:
        importlib.import_module(name)


def build_part(
    cfg: Config,
    checkpoint: str | None,
    part: str | None = None,
    *,
    size: Sequence[int] | None = None,
    with_labels: bool = True,
) -> nn.Module:
    """Build a part with its weights, in eval mode, as a function of raw images.

    Args:
        cfg (Config): Of the model.
        checkpoint (str, optional): Weights of the whole model, or for the encoder also of an
            encoder. Without it they are random.
        part (str, optional): One of ``PARTS``; by default the detector if there is one, or else
            the encoder.
        size (Sequence[int], optional): Height and width that an encoder of fixed size requires.
        with_labels (bool): See :class:`Detector`.

    Raises:
        UserError: the model has no such part, or cannot normalize images.
    """
    model_cfg, file = cfg.get('model', {}), cfg.filename
    kind = model_cfg.get('type')
    part = part or ('detector' if kind == DETECTOR else 'encoder')
    if part == 'detector' and kind != DETECTOR:
        raise UserError(
            f'only {DETECTOR} can be exported as a detector; the model of {file} is {kind}. Export '
            'its encoder with --part encoder'
        )
    if part == 'classifier' and str(kind).rpartition('.')[2] != CLASSIFIER:
        raise UserError(
            f'only {CLASSIFIER} can be exported as a classifier; the model of {file} is {kind}. '
            'Export its encoder with --part encoder'
        )
    if 'backbone' not in model_cfg:
        raise UserError(f'{file} defines no model with a backbone; choose a complete config')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.eval()  # mmpretrain's backbones return None
    if not hasattr(model.data_preprocessor, 'mean'):
        raise UserError(
            f'the data_preprocessor of {file} has no mean and std, which the graph requires; set '
            'them in the config'
        )
    if checkpoint and part == 'encoder':  # a file with a whole model or an encoder
        load_weights(model.backbone, find_checkpoint(checkpoint))
    elif checkpoint:
        load_weights(model, find_checkpoint(checkpoint), allow_unused=False)
    if part == 'encoder':
        module: nn.Module = Encoder(model, size or formats.SIZE)
    else:
        module = (
            Detector(model, with_labels=with_labels) if part == 'detector' else Classifier(model)
        )
    return module.eval().requires_grad_(False)


def metadata(cfg: Config, module: nn.Module) -> dict[str, str]:
    """Return what is recorded in an ONNX file: the config's name, and the class names."""
    entries = dict(config=Path(cfg.filename).stem)
    if isinstance(module, (Detector, Classifier)):
        classes = load_metainfo(cfg).get('classes')
        if classes:
            entries['classes'] = json.dumps(list(classes))
    return entries


def export(
    module: nn.Module,
    out: Path,
    format: str,
    *,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    int8: bool = False,
    calibration: Sequence[Tensor] | None = None,
    metadata: dict[str, str] | None = None,
) -> dict[tuple[int, ...], float]:
    """Write ``module``, whose layers are switched to their forms for export, as ``out``.

    Nothing remains if an error is raised or if the outputs differ from PyTorch's. The largest
    relative difference is returned for each shape of random images that was compared; for Core ML
    outside of macOS, which predicts nowhere else, names and shapes are compared instead.

    Args:
        module (nn.Module): From ``build_part``.
        out (Path): File, or folder of Core ML.
        format (str): A key of ``PACKAGES`` in ``export_formats``.
        size (Sequence[int], optional): Height and width; required by traced formats.
        batch (int, optional): Batch size; dynamic by default, 1 in traced formats.
        int8 (bool): Quantize the weights.
        calibration (Sequence[Tensor], optional): Images (N, 3, H, W) from 0 to 255 that give
            the ranges of activations for int8; by default every run measures them.
        metadata (dict, optional): Entries of an ONNX file.
    """
    if format in formats.TRACED and size is None:
        raise UserError(f'--format {format} requires a fixed size, got none; give --size H W')
    if format == 'ncnn' and batch not in (None, 1):
        raise UserError(f'ncnn processes one image at a time, got --batch {batch}; give --batch 1')
    if int8 and format not in formats.INT8:
        raise UserError(f'int8 exists for {" and ".join(formats.INT8)}, got --format {format}')
    trials = (
        [(1, formats.SIZE)] if format in formats.TRACED else [(2, formats.SIZE), (1, (96, 160))]
    )
    shapes = dict.fromkeys((batch or n, tuple(size or default)) for n, default in trials)
    batches = [random_images(*shape) for shape in shapes]
    with torch.no_grad():
        expected = [module(images) for images in batches]
        simplify_for_export(module, fixed_size=format in formats.TRACED)
        module(batches[0])
    unchecked = out.with_name(f'.part.{out.name}')
    source, differences = unchecked.with_suffix('.onnx'), {}
    try:
        if format in formats.TRACED:
            getattr(formats, f'export_{format}')(module, unchecked, batches[0])
        else:
            step = formats.STRIDE if isinstance(module, Detector) else 1
            formats.export_onnx(
                module, source, batch=batch, size=size, step=step, metadata=metadata
            )
        if int8:
            formats.quantize_onnx(source, source, calibration)
        if format == 'openvino':
            formats.onnx_to_openvino(source, unchecked)
        if format == 'coreml' and sys.platform != 'darwin':
            check_coreml(module, unchecked, expected[0])
        else:
            session = formats.LOADERS[format](unchecked)
            for images, outputs in zip(batches, expected, strict=True):
                difference = formats.largest_difference(session(images), outputs)
                differences[tuple(images.shape)] = difference
                if not (int8 or difference < TOLERANCE):
                    raise UserError(
                        f'the exported file differs from PyTorch by {difference:.1e}, more than '
                        f'{TOLERANCE}; no file was written. Try another version of its runtime'
                    )
        for file in written(unchecked):
            file.rename(out.with_suffix(file.suffix))
        return differences
    finally:
        for file in {source, *written(unchecked)}:
            remove(file)


def random_images(batch: int, size: Sequence[int], seed: int = 0) -> Tensor:
    """Return images (N, 3, H, W) from 0 to 255."""
    return 255 * torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def load_images(folder: str, size: Sequence[int], count: int) -> Tensor:
    """Read up to ``count`` images, evenly spaced in a folder, and resize them: (N, 3, H, W)."""
    files = find_images([folder])
    images = []
    for index in evenly_spaced(len(files), count):
        pixels, _ = decode(files[index].read_bytes(), str(files[index]))  # (h, w, 3) BGR
        image = torch.tensor(pixels).flip(2).permute(2, 0, 1)[None].float()  # (1, 3, h, w) RGB
        images.append(F.interpolate(image, tuple(size), mode='bilinear', antialias=True))
    return torch.cat(images)


def check_coreml(module: Any, file: Path, expected: Sequence[Tensor]) -> None:
    """Compare the names and shapes of a Core ML package with the outputs of PyTorch."""
    import coremltools

    spec = coremltools.utils.load_spec(str(file))
    found = {o.name: tuple(o.type.multiArrayType.shape) for o in spec.description.output}
    shapes = {n: tuple(x.shape) for n, x in zip(module.names, expected, strict=True)}
    if found != shapes:
        raise UserError(f'the outputs of the Core ML package are {found}, expected {shapes}')


def written(file: Path) -> list[Path]:
    """Return the existing files of an export: ``file`` and its weights beside it."""
    return [f for f in (file, file.with_suffix('.bin')) if f.exists()]


def remove(file: Path) -> None:
    """Delete a file or a folder if it exists."""
    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
