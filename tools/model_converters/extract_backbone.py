"""Take the encoder out of a pre-training run: tools/model_converters/extract_backbone.py
CHECKPOINT OUT.

OUT (.pth or .safetensors) holds the encoder's tensors under the names of ``MobileFormer`` and, in
``meta``, its form and where it comes from. Of a run with averaged weights (mmengine's ``EMAHook``)
these are the averaged ones. The encoder is built from its record first, and must take every tensor.
"""

import argparse

from recorded_encoder import recorded_encoder
from torch import Tensor

from finola_mm import __version__
from finola_mm.engine import (
    checkpoint_metadata,
    encoder_part,
    find_checkpoint,
    find_tensors,
    read_checkpoint,
    write_weights,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the encoder of a checkpoint to a file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('out', help='the file to write, .pth or .safetensors')
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser.parse_args()


def extract(path: str) -> tuple[dict[str, Tensor], dict]:
    """The encoder's tensors of a checkpoint file, and the ``meta`` to write with them."""
    checkpoint = read_checkpoint(path)
    tensors, record = find_tensors(checkpoint, path), checkpoint_metadata(checkpoint)
    tensors = encoder_part(tensors) or tensors  # without prefix: it is an encoder already
    encoder, described = recorded_encoder(path, record, tensors)
    meta = {**record, 'format_version': 1, 'finola_mm_version': __version__, 'part': 'encoder'}
    meta['parameters'] = sum(parameter.numel() for parameter in encoder.parameters())
    return tensors, {**meta, **described}


def main() -> None:
    args = parse_args()
    try:
        tensors, meta = extract(find_checkpoint(args.checkpoint))
        file = write_weights(args.out, tensors, meta=meta, force=args.force)
    except (OSError, ValueError) as error:
        raise SystemExit(f'extract_backbone: {error}') from None
    print(f'wrote {file}: {len(tensors)} tensors, {file.stat().st_size:,} bytes')
    for key, value in meta.items():
        print(f'    {key}: {value}')
    arguments = ', '.join(f'{key}={value!r}' for key, value in meta['encoder'].items())
    print('It is loaded by tools/train.py --pretrained, or in a config by')
    print(f'    backbone=dict({arguments},')
    print(f"        init_cfg=dict(type='finola_mm.Pretrained', checkpoint={str(file)!r}))")


if __name__ == '__main__':
    main()
