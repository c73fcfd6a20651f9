"""Write the encoder of a checkpoint to a file.

    python tools/model_converters/extract_backbone.py CHECKPOINT OUT

CHECKPOINT is a checkpoint file or a work directory, of which the last checkpoint is used. OUT is a
.pth or .safetensors file.
"""

import argparse

from finola_mm.apis import check_out, command_line, extract_encoder
from finola_mm.apis.encoder import format_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the encoder of a checkpoint to a file')
    parser.add_argument(
        'checkpoint', help='checkpoint file, or work directory (its last checkpoint)'
    )
    parser.add_argument('out', help='file to write, .pth or .safetensors')
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it exists')
    return parser.parse_args()


@command_line
def main() -> None:
    args = parse_args()
    check_out(args.out)
    file = extract_encoder(args.checkpoint, args.out, force=args.force)
    print(f'wrote {format_weights(file)}')
    print('Load it with finola_mm.load_encoder(FILE), tools/train.py --pretrained FILE, or in a')
    print("config with backbone.init_cfg=dict(type='finola_mm.Pretrained', checkpoint=FILE).")


if __name__ == '__main__':
    main()
