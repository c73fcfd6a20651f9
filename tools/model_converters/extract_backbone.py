"""Write the encoder of a checkpoint to a file.

    python tools/model_converters/extract_backbone.py CHECKPOINT OUT [--format timm]

CHECKPOINT is a checkpoint file or a work directory, of which the last checkpoint is used. OUT is a
.pth or .safetensors file. With --format, the weights have the names of another library and load
strictly into its model without classifier.
"""

import argparse
from pathlib import Path

from finola_mm.apis import check_out, command_line, extract_encoder
from finola_mm.apis.publishing import format_weights
from finola_mm.apis.weight_formats import FORMATS, timm_arguments, timm_model
from finola_mm.engine import read_checkpoint
from finola_mm.errors import list_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write the encoder of a checkpoint to a file')
    parser.add_argument(
        'checkpoint', help='checkpoint file, or work directory (its last checkpoint)'
    )
    parser.add_argument('out', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--format',
        choices=FORMATS,
        help='library whose names the weights get; default: those of the checkpoint',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it exists')
    return parser.parse_args()


@command_line
def main() -> None:
    args = parse_args()
    check_out(args.out)
    file = extract_encoder(args.checkpoint, args.out, library=args.format, force=args.force)
    print(f'wrote {format_weights(file)}')
    if args.format == 'timm':
        print_timm_model(file)
    if args.format in ('timm', 'torchvision'):
        print("Load it with model.load_state_dict(torch.load(FILE)['state_dict']), or a")
        print('.safetensors file with model.load_state_dict(safetensors.torch.load_file(FILE)).')
        return
    print('Load it with finola_mm.load_encoder(FILE), tools/train.py --pretrained FILE, or in a')
    print("config with backbone.init_cfg=dict(type='finola_mm.Pretrained', checkpoint=FILE).")


def print_timm_model(file: Path) -> None:
    """Print how timm builds the model, and which of its parts have no weights in the file."""
    checkpoint = read_checkpoint(file)
    encoder = checkpoint['meta']['encoder']
    if not encoder['type'].endswith('TIMMBackbone'):
        return
    name, *options = (f'{key}={value!r}' for key, value in timm_arguments(encoder).items())
    print(f'model = timm.create_model({", ".join([name, *options])})')
    missing = timm_model(encoder).state_dict().keys() - checkpoint['state_dict'].keys()
    if missing:
        modules = sorted({'.'.join(key.split('.')[:-1][:2]) or key for key in missing})
        print(f'Set strict=False below: {list_names(modules)} lie behind the pre-trained map.')


if __name__ == '__main__':
    main()
