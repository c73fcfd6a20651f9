"""Count the parameters and multiply-adds of a config's model.

    python tools/analysis/get_flops.py CONFIG [--shape 800 1333]

The first table lists the encoder alone, at the paper's 800 x 1333 or at --shape, together with the
published numbers. The second table lists each part of the model for one image of the size in the
config. It counts the computation of the loss if this requires no labels, and otherwise the plain
forward pass. The tool needs no data.
"""

import argparse
import copy
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.apis import add_cfg_options, command_line, int_range, load_config
from finola_mm.backbones.mobile_former import get_arch
from finola_mm.errors import UserError
from finola_mm.functional.compat import math_attention

# arXiv 2305.16319: parameters (M) and MAdds (G) at 800 x 1333 from Table 4; for the two widest
# encoders, only parameters, from Table 2.
PUBLISHED = {
    'w720': (4.9, 5.6),
    'w1440': (11.7, 20.4),
    'w2880': (25.0, 77.5),
    'w4320': (43.5, None),
    'w5760': (67.6, None),
}
PAPER_SHAPE = (800, 1333)

# Encoder and classifier at 224 x 224: lin from Table 6 (parameters only), tran-4 from Table 7. The
# tables give rounded values; for lin of W720 the text gives 5.8 M.
PUBLISHED_CLASSIFIERS: dict[tuple[str, str], tuple[float, float | None]] = {
    ('w720', 'lin'): (5.8, None),
    ('w1440', 'lin'): (14, None),
    ('w2880', 'lin'): (28, None),
    ('w720', 'tran-4'): (7, 0.7),
    ('w1440', 'tran-4'): (20, 2.6),
    ('w2880', 'tran-4'): (57, 9.9),
}
CLASSIFIER_SHAPE = (224, 224)

# arXiv 2108.05895: the ImageNet family with its own classifier, at 224 x 224.
PUBLISHED_FAMILY = {
    '508m': (14.0, 0.508),
    '294m': (11.4, 0.294),
    '214m': (9.4, 0.214),
    '151m': (7.6, 0.151),
    '96m': (4.6, 0.096),
    '52m': (3.5, 0.052),
    '26m': (3.2, 0.026),
}
PUBLISHED_CLASSIFIERS |= {(arch, 'own'): counts for arch, counts in PUBLISHED_FAMILY.items()}

# Decoder and head of the detectors for COCO's 80 classes at 800 x 1333: 522 from Tables 4 and 18,
# 211 from Table 18.
PUBLISHED_DECODERS = {
    ('w2880', '522'): (19.4, 34.6),
    ('w1440', '522'): (18.6, 32.3),
    ('w720', '522'): (18.2, 31.1),
    ('w2880', '211'): (9.2, 15.7),
    ('w1440', '211'): (8.4, 13.4),
    ('w720', '211'): (8.0, 12.2),
}

Row = tuple[str, int, float]  # name of the part, parameters, multiply-adds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count parameters and multiply-adds')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int_range(1),
        nargs=2,
        default=PAPER_SHAPE,
        metavar=('H', 'W'),
        help="image size for the encoder table; default: the paper's 800 1333",
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def count_madds(model: nn.Module, *args, **kwargs) -> dict[str, float]:
    """Count the multiply-adds of one forward pass by module name; '' is the whole model.

    The count includes convolutions, linear layers and matrix products, including those in
    attention. torch's counter does not support the CPU's fused attention, so attention is computed
    with matrix products here.
    """
    if not find_spec('torch.utils.module_tracker'):
        raise UserError(f'torch {torch.__version__} is installed; counting by module requires 2.4')
    model.requires_grad_(False)  # the counter's module hooks fail under torch.no_grad()
    with FlopCounterMode(display=False) as counter, math_attention():
        model(*args, **kwargs)
    root = type(model).__name__
    return {
        name.removeprefix(root).removeprefix('.'): sum(flops.values()) / 2
        for name, flops in counter.get_flop_counts().items()
        if name.startswith(root)
    }


def count_parameters(model: nn.Module) -> int:
    """Count parameters, including frozen ones but not buffers."""
    return sum(p.numel() for p in model.parameters())


def encoder_row(cfg: Config, shape: Sequence[int]) -> Row:
    """Count the config's encoder for an image of ``shape``; Mobile-Former with its final layer."""
    backbone = dict(cfg.model.backbone, init_cfg=None)
    if backbone['type'] == 'finola_mm.MobileFormer':
        backbone['out_indices'] = (len(get_arch(backbone['arch'])['stages']),)
    encoder = MODELS.build(backbone).to('meta')  # counting requires only shapes
    encoder.eval()
    madds = count_madds(encoder, torch.empty(1, 3, *shape, device='meta'))
    return 'encoder', count_parameters(encoder), madds['']


def published_encoder(arch: str | dict, shape: Sequence[int]) -> str:
    """Return the paper's numbers for an encoder, or ''."""
    params, madds = PUBLISHED.get(arch, (None, None)) if isinstance(arch, str) else (None, None)
    return _format(params, madds if tuple(shape) == PAPER_SHAPE else None)


def published_model(model: Config, shape: Sequence[int]) -> str:
    """Return the paper's numbers for a classifier of 1000 classes or a detector, or ''."""
    arch, head = model.backbone.get('arch'), model.get('head') or {}
    if not isinstance(arch, str):
        return ''
    if model.type == 'finola_mm.MobileFormerDETR' and tuple(shape) == PAPER_SHAPE:
        params, madds = PUBLISHED_DECODERS.get((arch, model.decoder.arch), (None, None))
        if params is None:
            return ''
        both = (round(a + b, 1) for a, b in zip(PUBLISHED[arch], (params, madds), strict=True))
        return f'{_format(*both)}; decoder and head {params} M, {madds} G'
    decoder = {
        'finola_mm.LinearProbeHead': 'lin',
        'finola_mm.MobileFormerHead': 'own',
        'finola_mm.TransformerHead': f'tran-{head.get("depth", 1)}',
    }.get(head.get('type'))
    if decoder is None or head.num_classes != 1000:
        return ''
    params, madds = PUBLISHED_CLASSIFIERS.get((arch, decoder), (None, None))
    return _format(params, madds if tuple(shape) == CLASSIFIER_SHAPE else None)


def _format(params: float | None, madds: float | None) -> str:
    known = [f'{number} {unit}' for number, unit in ((params, 'M'), (madds, 'G')) if number]
    return 'paper: ' + ', '.join(known) if known else ''


def part_rows(cfg: Config, size: tuple[int, int], mode: str) -> Iterable[Row]:
    """Count each part of the model and the sum for one image of ``size`` in a forward ``mode``."""
    try:
        # The loss calls finola(), which does not support the meta device.
        model, madds = count_model(cfg, size, mode, 'cpu' if mode == 'loss' else 'meta')
    except RuntimeError:  # mmdet's DINO does not support it either
        model, madds = count_model(cfg, size, mode, 'cpu')
    parts = {name: p for name, p in model.named_children() if name != 'data_preprocessor'}
    # The counter tracks calls of modules. mmdet calls the forward method of its dense heads
    # directly, so the remainder is assigned to such a part.
    unseen = [name for name in parts if name not in madds and _is_used(name, madds)]
    counts = {name: madds.get(name, 0) for name in parts if name not in unseen}
    for name, count in counts.items():
        yield name, count_parameters(parts[name]), count
    if unseen:
        params = sum(count_parameters(parts[name]) for name in unseen)
        yield ' + '.join(unseen), params, madds[''] - sum(counts.values())
    yield 'sum', count_parameters(model), madds['']


def count_model(
    cfg: Config, size: tuple[int, int], mode: str, device: str
) -> tuple[nn.Module, dict[str, float]]:
    """Build the config's model and count the multiply-adds of one image."""
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = dict(block_offset=(0, 0), scale_factor=(1.0, 1.0), **dict.fromkeys(shapes, size))
    with torch.device(device):
        model = MODELS.build(copy.deepcopy(cfg.model)).eval()  # mmdet's DINO modifies its config
        sample = BaseDataElement(metainfo=metainfo)
        return model, count_madds(model, torch.zeros(1, 3, *size), [sample], mode=mode)


def _is_used(part: str, madds: dict[str, float]) -> bool:
    return any(name.startswith(f'{part}.') for name in madds)


def image_size(pipeline: Iterable[dict]) -> tuple[int, int]:
    """Return the (H, W) that a test pipeline produces, from its last crop or resize."""
    for transform in reversed(list(pipeline)):
        if 'crop_size' in transform or 'scale' in transform:
            size = transform.get('crop_size', transform.get('scale'))
            return (size, size) if isinstance(size, int) else tuple(size[::-1])
    raise UserError(
        'the image size is read from crop_size or scale in the test_pipeline, but no transform '
        'has either; choose a config with such a test_pipeline'
    )


def print_table(title: str, rows: Iterable[Row], note: str = '') -> None:
    """Print the rows; append ``note`` to the last one."""
    rows = list(rows)
    width = max(14, *(len(name) for name, _, _ in rows))
    lines = [f'  {name:{width}}{p / 1e6:12.2f}{madds / 1e9:12.2f}' for name, p, madds in rows]
    print(f'\n{title}')
    print(f'  {"":{width}}{"params (M)":>12}{"MAdds (G)":>12}')
    print('\n'.join(lines), note, sep='   ' if note else '')


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, options=args.cfg_options)
    if 'backbone' not in cfg.get('model', {}):
        raise UserError(f'{args.config} defines no model with a backbone; choose a complete config')
    size = image_size(cfg.get('test_pipeline', []))
    init_default_scope(cfg.get('default_scope', 'finola_mm'))
    height, width = args.shape
    note = published_encoder(cfg.model.backbone.get('arch'), args.shape)
    print_table(f'encoder alone, {height} x {width}', [encoder_row(cfg, args.shape)], note)
    # Only models that reconstruct images have a loss without labels.
    mode, title = ('loss', 'loss') if 'upsampler' in cfg.model else ('tensor', 'forward pass')
    rows = part_rows(cfg, size, mode)
    title = f'{cfg.model.type}, {title} of one image, {size[0]} x {size[1]}'
    print_table(title, rows, published_model(cfg.model, size))
    print(
        '\nMAdds: multiply-adds of the convolutions, linear layers and matrix products of one '
        'forward\npass, including attention. paper: numbers published in arXiv 2305.16319, Tables '
        '2, 4, 6, 7\nand 18, and in arXiv 2108.05895.'
    )


if __name__ == '__main__':
    main()
