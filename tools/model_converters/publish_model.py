"""Write the weights of a checkpoint to a file with a hash in its name:
tools/model_converters/publish_model.py CHECKPOINT OUT.
"""

import argparse

from finola_mm.apis import command_line, publish_model
from finola_mm.apis.encoder import format_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint to a file')
    parser.add_argument('checkpoint', help='checkpoint, or a work directory for its last one')
    parser.add_argument('out', help='file to write, .pth or .safetensors, before its hash')
    parser.add_argument('--force', action='store_true', help='overwrite a file of the same content')
    return parser.parse_args()


@command_line
def main() -> None:
    args = parse_args()
    file = publish_model(args.checkpoint, args.out, force=args.force)
    print(f'wrote {format_weights(file)}')
    print('Pass it to tools/test.py as CHECKPOINT, or its encoder to tools/train.py --pretrained.')


if __name__ == '__main__':
    main()
