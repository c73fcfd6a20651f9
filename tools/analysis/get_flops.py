"""Parameters and multiply-adds of a config's model: tools/analysis/get_flops.py CONFIG [options].

First the encoder alone, at the paper's 800 x 1333 or at --shape, beside the published figures; then
every part of the model for one image of the config's own size: for its loss where that needs no
labels, else for its prediction. Needs no data.
"""

import argparse
import copy
from collections.abc import Iterable, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.apis import CfgOptions, in_own_module, load_config

# arXiv 2305.16319: parameters (M) and MAdds (G) at 800 x 1333, Table 4; of the two widest Table 2
# gives the parameters.
PUBLISHED = {
    'w720': (4.9, 5.6),
    'w1440': (11.7, 20.4),
    'w2880': (25.0, 77.5),
    'w4320': (43.5, None),
    'w5760': (67.6, None),
}
PAPER_SHAPE = (800, 1333)

# Encoder and classifier at 224 x 224: lin, Table 6, gives the parameters alone; tran-4, Table 7.
# Both tables round, and the text has 5.8 M for lin of W720.
PUBLISHED_CLASSIFIERS = {
    ('w720', 'lin'): (5.8, None),
    ('w1440', 'lin'): (14, None),
    ('w2880', 'lin'): (28, None),
    ('w720', 'tran-4'): (7, 0.7),
    ('w1440', 'tran-4'): (20, 2.6),
    ('w2880', 'tran-4'): (57, 9.9),
}
CLASSIFIER_SHAPE = (224, 224)

# Decoder and head of the detectors for COCO's 80 classes at 800 x 1333: 522, Tables 4 and 18; 211,
# Table 18.
PUBLISHED_DECODERS = {
    ('w2880', '522'): (19.4, 34.6),
    ('w1440', '522'): (18.6, 32.3),
    ('w720', '522'): (18.2, 31.1),
    ('w2880', '211'): (9.2, 15.7),
    ('w1440', '211'): (8.4, 13.4),
    ('w720', '211'): (8.0, 12.2),
}

# name of the part, parameters, multiply-adds
Row = tuple[str, int, float]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count parameters and multiply-adds')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=PAPER_SHAPE,
        metavar=('H', 'W'),
        help="image for the encoder alone; by default the paper's 800 1333",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    return parser.parse_args()


def count_madds(model: nn.Module, *args, **kwargs) -> dict[str, float]:
    """Multiply-adds of one forward pass: the whole under '', every module under its name.

    Convolutions, linear layers and matrix products, those of attention included; torch's counter
    overlooks the CPU's fused attention, so attention runs as matrix products here.
    """
    model.requires_grad_(False)  # the counter's module hooks trip over torch.no_grad()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(*args, **kwargs)
    root = type(model).__name__
    return {
        name.removeprefix(root).removeprefix('.'): sum(flops.values()) / 2
        for name, flops in counter.get_flop_counts().items()
        if name.startswith(root)
    }


def count_parameters(model: nn.Module) -> int:
    """Parameters, frozen ones too; buffers are none."""
    return sum(p.numel() for p in model.parameters())


def encoder_row(cfg: Config, shape: Sequence[int]) -> Row:
    """The config's encoder with its final 1x1 convolution, for one image of ``shape``."""
    with torch.device('meta'):  # shapes are enough to count
        encoder = MODELS.build({**cfg.model.backbone, 'out_indices': (4,)}).eval()
        madds = count_madds(encoder, torch.empty(1, 3, *shape))
    return 'encoder', count_parameters(encoder), madds['']


def published(arch: str | dict, shape: Sequence[int]) -> str:
    """The paper's figures for an encoder, '' where there are none."""
    params, madds = PUBLISHED.get(arch, (None, None)) if isinstance(arch, str) else (None, None)
    return _figures(params, madds if tuple(shape) == PAPER_SHAPE else None)


def published_classifier(model: Config, shape: Sequence[int]) -> str:
    """The paper's figures for an encoder with a decoder for 1000 classes, '' without such."""
    head = model.get('head') or {}
    decoder = {
        'finola_mm.LinearProbeHead': 'lin',
        'finola_mm.TransformerHead': f'tran-{head.get("depth", 1)}',
    }.get(head.get('type'))
    if decoder is None or head.num_classes != 1000 or isinstance(model.backbone.arch, dict):
        return ''
    params, madds = PUBLISHED_CLASSIFIERS.get((model.backbone.arch, decoder), (None, None))
    return _figures(params, madds if tuple(shape) == CLASSIFIER_SHAPE else None)


def published_detector(model: Config, shape: Sequence[int]) -> str:
    """The paper's figures for an encoder with a decoder for detection, '' without such."""
    if model.type != 'finola_mm.MobileFormerDETR' or tuple(shape) != PAPER_SHAPE:
        return ''
    encoder, decoder = model.backbone.arch, model.decoder.arch
    if not (isinstance(encoder, str) and (encoder, decoder) in PUBLISHED_DECODERS):
        return ''
    params, madds = PUBLISHED_DECODERS[encoder, decoder]
    both = (round(a + b, 1) for a, b in zip(PUBLISHED[encoder], (params, madds), strict=True))
    return f'{_figures(*both)}; decoder and head {params} M, {madds} G'


def _figures(params: float | None, madds: float | None) -> str:
    known = [f'{figure} {unit}' for figure, unit in ((params, 'M'), (madds, 'G')) if figure]
    return 'paper: ' + ', '.join(known) if known else ''


def part_rows(cfg: Config, size: tuple[int, int], mode: str) -> Iterable[Row]:
    """Every part of the model and their sum, for one image of ``size`` in a forward ``mode``."""
    try:
        # finola(), of which a loss is made, does not run on the meta device.
        model, madds = count_model(cfg, size, mode, 'cpu' if mode == 'loss' else 'meta')
    except (NotImplementedError, RuntimeError):  # nor does mmdet's DINO
        model, madds = count_model(cfg, size, mode, 'cpu')
    parts = {name: p for name, p in model.named_children() if name != 'data_preprocessor'}
    # The counter sees calls of modules. A part whose forward the model calls by its name, as mmdet
    # does with its dense heads, gets what the others leave.
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
    """The config's model, and the multiply-adds of one image."""
    metainfo = dict(
        block_offset=(0, 0),
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
    )
    with torch.device(device):
        model = MODELS.build(copy.deepcopy(cfg.model)).eval()  # mmdet's DINO adds to its config
        sample = BaseDataElement(metainfo=metainfo)
        return model, count_madds(model, torch.zeros(1, 3, *size), [sample], mode=mode)


def _is_used(part: str, madds: dict[str, float]) -> bool:
    return any(name.startswith(f'{part}.') for name in madds)


def image_size(pipeline: Iterable[dict]) -> tuple[int, int]:
    """(H, W) of the images that a test pipeline makes, from its last crop or resize."""
    for transform in reversed(list(pipeline)):
        if 'crop_size' in transform or 'scale' in transform:
            size = transform.get('crop_size', transform.get('scale'))
            return (size, size) if isinstance(size, int) else tuple(size[::-1])
    raise ValueError('test_pipeline has no transform with crop_size or scale to take the size from')


def print_table(title: str, rows: Iterable[Row], note: str = '') -> None:
    """The rows; ``note`` stands beside the last one."""
    rows = list(rows)
    width = max(14, *(len(name) for name, _, _ in rows))
    lines = [f'  {name:{width}}{p / 1e6:12.2f}{madds / 1e9:12.2f}' for name, p, madds in rows]
    print(f'\n{title}')
    print(f'  {"":{width}}{"params (M)":>12}{"MAdds (G)":>12}')
    print('\n'.join(lines), note, sep='   ' if note else '')


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        if 'backbone' not in cfg.get('model', {}):
            raise ValueError(f'{args.config} defines no model with a backbone')
        size = image_size(cfg.get('test_pipeline', []))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'get_flops: {error}') from None
    init_default_scope(cfg.get('default_scope', 'finola_mm'))
    note = published(cfg.model.backbone.get('arch'), args.shape)
    height, width = args.shape
    try:
        print_table(f'encoder alone, {height} x {width}', [encoder_row(cfg, args.shape)], note)
        print_model(cfg, size)
    except ValueError as error:  # sizes that do not fit each other
        if in_own_module(error):
            raise
        raise SystemExit(f'get_flops: {args.config}: {error}') from None
    print(
        '\nMAdds: multiply-adds of the convolutions, linear layers and matrix products of one '
        'forward\npass, attention products included. paper: the published figures of arXiv '
        '2305.16319,\nTables 2, 4, 6, 7 and 18.'
    )


def print_model(cfg: Config, size: tuple[int, int]) -> None:
    """The table of the whole model and its parts."""
    # What reconstructs an image needs no labels for its loss. Of any other model it is a forward
    # pass without the loss.
    mode, what = ('loss', 'loss') if 'upsampler' in cfg.model else ('tensor', 'forward pass')
    rows = part_rows(cfg, size, mode)
    note = published_classifier(cfg.model, size) or published_detector(cfg.model, size)
    print_table(f'{cfg.model.type}, {what} of one image, {size[0]} x {size[1]}', rows, note)


if __name__ == '__main__':
    main()
