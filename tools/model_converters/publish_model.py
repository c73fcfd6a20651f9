"""Write the weights of a checkpoint to a file with a hash in its name.

    python tools/model_converters/publish_model.py CHECKPOINT OUT

CHECKPOINT is a checkpoint file or a work directory, of which the last checkpoint is used. OUT is a
.pth or .safetensors file; a hash is added to its name.
"""

import argparse

from finola_mm.apis import check_out, command_line, publish_model
from finola_mm.apis.publishing import format_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint to a file')
    parser.add_argument(
        'checkpoint', help='checkpoint file, or work directory (its last checkpoint)'
    )
    parser.add_argument(
        'out', help='file to write, .pth or .safetensors; a hash is added to its name'
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite a file with the same content'
    )
    return parser.parse_args()


@command_line
def main() -> None:
    args = parse_args()
    check_out(args.out)
    file = publish_model(args.checkpoint, args.out, force=args.force)
    print(f'wrote {format_weights(file)}')
    print('Pass it to tools/test.py as CHECKPOINT, or its encoder to tools/train.py --pretrained.')


if __name__ == '__main__':
    main()
