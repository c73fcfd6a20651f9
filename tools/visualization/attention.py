"""Draw where the queries of a detector look: tools/visualization/attention.py CONFIG CHECKPOINT
IMAGE --out PICTURE.

For configs with MobileFormerDETR. The first cell has the best --queries objects; then each has a
cell with the attention of its query over the map, averaged over the heads, in the last block at
--stride 32, 16 or 8 of the decoder (Mobile->Former, where queries read the map). Red is the most
looked at position of that cell. A cell is at least 320 pixels wide.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image, ImageDraw
from torch import Tensor, nn

from finola_mm.apis import CfgOptions, in_own_module, load_config
from finola_mm.engine import find_checkpoint, load_weights

STRIDES = (32, 16, 8)  # of the decoder's scales, in its order
COLUMNS = 3
WIDTH = 320  # least one of a cell in pixels: smaller ones have no room for names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw where the queries of a detector look')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('image', help='image file')
    parser.add_argument('--out', type=Path, required=True, help='the picture, .png or .jpg')
    parser.add_argument('--queries', type=int, default=5, help='best ones; default: %(default)s')
    parser.add_argument(
        '--stride', type=int, choices=STRIDES, default=16, help='of the map; default: %(default)s'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    args = parser.parse_args(argv)
    if args.queries < 1:
        parser.error(f'--queries must be at least 1, got {args.queries}')
    if args.out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        parser.error(f'--out: expected a name that ends in .png or .jpg, got {args.out}')
    if args.out.exists():
        parser.error(f'--out: {args.out} exists: delete it, or choose another name')
    return args


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if cfg.get('model', {}).get('type') != 'finola_mm.MobileFormerDETR':
        raise ValueError(
            f'expected a config with finola_mm.MobileFormerDETR, got '
            f'{cfg.get("model", {}).get("type")}'
        )
    model = MODELS.build(cfg.model)
    load_weights(model, find_checkpoint(checkpoint), allow_unused=False)
    return model.eval()


def load_image(model: nn.Module, cfg: Config, file: str) -> dict:
    """The file by the test pipeline, as a batch of one."""
    if not Path(file).is_file():
        raise FileNotFoundError(f'no image {file}')
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if 'LoadAnnotations' not in step['type']])
    try:
        sample = pipeline(dict(img_path=file, img_id=0))
    except Exception as error:  # each decoder has its own way to fail
        raise ValueError(f'{file} cannot be read as an image ({error})') from None
    return model.data_preprocessor(pseudo_collate([sample]))


def watch(block: nn.Module) -> list[Tensor]:
    """A list that gets the attention of the block's queries, (N, Q, H, W), when it runs.

    The layer runs torch's fused attention, which keeps no weights: they are computed again from
    what it was given.
    """
    seen = []

    def record(block, args, output):
        (z, p, x), sine, padding = args
        rows = x.flatten(2).transpose(1, 2)  # (N, HW, D)
        _, weights = block.to_former.attention(
            z + p,
            rows + sine.flatten(1, 2),
            rows,
            need_weights=True,
            key_padding_mask=None if padding is None else padding.flatten(1),
        )
        seen.append(weights.unflatten(2, x.shape[2:]))  # (N, Q, H, W)

    block.register_forward_hook(record)
    return seen


@torch.no_grad()
def look(model: nn.Module, batch: dict, stride: int, number: int) -> list[tuple]:
    """The best queries: (label, score, box x1 y1 x2 y2 in pixels, attention (H, W) of 0 to 1)."""
    seen = watch(model.decoder.scales[STRIDES.index(stride)][-1])
    logits, boxes = model(**batch, mode='tensor')  # (B, 1, Q, classes + 1 or 4)
    scores, labels = logits[-1, 0].softmax(1)[:, :-1].max(1)
    height, width = batch['inputs'].shape[2:]
    x, y, w, h = (boxes[-1, 0] * boxes.new_tensor([width, height, width, height])).unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    # By the stride, then cut: the last positions of a map may reach beyond the image.
    best = scores.topk(min(number, len(scores))).indices
    maps = F.interpolate(seen[0][:, best], scale_factor=stride, mode='bilinear')[0]
    maps = maps[:, :height, :width]
    maps = maps / maps.amax((1, 2), keepdim=True)
    return [
        (labels[i].item(), scores[i].item(), corners[i].tolist(), maps[k].numpy())
        for k, i in enumerate(best)
    ]


def pixels(model: nn.Module, batch: dict) -> np.ndarray:
    """The image as the model got it, (H, W, 3) uint8 RGB."""
    norm = model.data_preprocessor
    image = batch['inputs'][0] * norm.std + norm.mean
    return image.clamp(0, 255).byte().permute(1, 2, 0).numpy()


def draw(image: np.ndarray, found: list[tuple], classes: list[str]) -> Image.Image:
    """All boxes in one cell, then a cell for each query."""
    scale = max(1, -(-WIDTH // image.shape[1]))
    cells = [boxed(image, found, classes, scale)]
    for item in found:
        heat = cv2.applyColorMap((255 * item[3]).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
        cells.append(boxed((0.5 * image + 0.5 * heat).astype(np.uint8), [item], classes, scale))
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new('RGB', (COLUMNS * width, rows * height), 'white')
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % COLUMNS * width, i // COLUMNS * height))
    return sheet


def boxed(image: np.ndarray, found: list[tuple], classes: list[str], scale: int) -> Image.Image:
    picture = Image.fromarray(image)
    picture = picture.resize((scale * picture.width, scale * picture.height))
    pen = ImageDraw.Draw(picture)
    for label, score, box, _ in found:
        box = [scale * edge for edge in box]
        pen.rectangle(box, outline='white', width=2)
        pen.text(
            (max(box[0], 0) + 4, max(box[1], 0) + 2),
            f'{classes[label]} {score:.2f}',
            fill='white',
            stroke_width=1,
            stroke_fill='black',
        )
    return picture


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        model = load_model(cfg, args.checkpoint)
        batch = load_image(model, cfg, args.image)
    except (FileNotFoundError, ValueError) as error:
        if in_own_module(error):
            raise
        raise SystemExit(f'attention: {error}') from None
    found = look(model, batch, args.stride, args.queries)
    data = dict(cfg.test_dataloader.dataset, lazy_init=True)
    classes = DATASETS.build(data).metainfo['classes']
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(pixels(model, batch), found, classes).save(args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
