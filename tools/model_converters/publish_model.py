"""Strip a training checkpoint for others: tools/model_converters/publish_model.py CHECKPOINT OUT.

OUT (.pth or .safetensors) holds the whole model's tensors and a small ``meta``; the state of the
optimizer, the schedulers and the log is left out. As with OpenMMLab's files, the first 8 hex digits
of the file's SHA-256 go into its name: OUT model.pth becomes model-1a2b3c4d.pth.
"""

import argparse

from recorded_encoder import has_mobile_former, recorded_encoder
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
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint to a file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('out', help='the file to write, .pth or .safetensors, before its hash')
    parser.add_argument('--force', action='store_true', help='overwrite a file of the same content')
    return parser.parse_args()


def publish(path: str) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a checkpoint file, and the ``meta`` to write with them."""
    checkpoint = read_checkpoint(path)
    tensors, record = find_tensors(checkpoint, path), checkpoint_metadata(checkpoint)
    meta = {'part': 'model', **record, 'format_version': 1, 'finola_mm_version': __version__}
    if has_mobile_former(record):
        _, described = recorded_encoder(path, record, encoder_part(tensors) or tensors)
        meta.update(described)
    return tensors, meta


def main() -> None:
    args = parse_args()
    try:
        tensors, meta = publish(find_checkpoint(args.checkpoint))
        file = write_weights(args.out, tensors, meta=meta, hashed=True, force=args.force)
    except (OSError, ValueError) as error:
        raise SystemExit(f'publish_model: {error}') from None
    values = sum(tensor.numel() for tensor in tensors.values())
    size = file.stat().st_size
    print(f'wrote {file}: {len(tensors)} tensors, {values:,} values, {size:,} bytes')
    for key, value in meta.items():
        print(f'    {key}: {value}')
    print('tools/test.py takes it as CHECKPOINT, tools/train.py --pretrained its encoder.')


if __name__ == '__main__':
    main()
