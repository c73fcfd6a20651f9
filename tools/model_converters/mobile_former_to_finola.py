"""Convert a checkpoint of the official Mobile-Former to a file of this project.

    python tools/model_converters/mobile_former_to_finola.py CHECKPOINT OUT --arch 508m

CHECKPOINT is a file of github.com/AAboys/MobileFormer. OUT is a .pth or .safetensors file of the
encoder and the classifier, for tools/test.py configs/classification/mobile_former/508m.py OUT.
"""

import argparse

from finola_mm.apis import check_out, command_line, convert_official
from finola_mm.apis.publishing import format_weights
from finola_mm.backbones.mobile_former import FAMILY


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert an official Mobile-Former checkpoint')
    parser.add_argument('checkpoint', help='file of the official code')
    parser.add_argument('out', help='file to write, .pth or .safetensors')
    parser.add_argument('--arch', required=True, choices=FAMILY, help='the network of CHECKPOINT')
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it exists')
    return parser.parse_args()


@command_line
def main() -> None:
    args = parse_args()
    check_out(args.out)
    file = convert_official(args.checkpoint, args.out, args.arch, force=args.force)
    print(f'wrote {format_weights(file)}')
    print(f'Test it: tools/test.py configs/classification/mobile_former/{args.arch}.py FILE. Load')
    print('its encoder with finola_mm.load_encoder(FILE) or tools/train.py --pretrained FILE.')


if __name__ == '__main__':
    main()
