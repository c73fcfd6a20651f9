"""Draw the attention maps of a detector's queries.

    python tools/visualization/attention.py CONFIG CHECKPOINT IMAGE --out attention.png

The tool requires a config with MobileFormerDETR. The first cell shows the objects with the highest
scores (--queries sets their number). Each further cell shows the attention of one query over the
map, averaged over the heads, in the last decoder block at --stride 32, 16 or 8 (Mobile->Former,
where queries attend to the map). Red marks the maximum of a cell. A cell is at least 320 pixels
wide.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image, ImageDraw
from torch import Tensor, nn

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    check_out,
    command_line,
    int_range,
    load_config,
)
from finola_mm.apis.inference import load_metainfo, load_model
from finola_mm.errors import UserError

STRIDES = (32, 16, 8)  # of the decoder's scales, in order
COLUMNS = 3
MIN_WIDTH = 320  # pixels of a cell, so that class names fit


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the attention maps of a detector's queries")
    add_config_and_checkpoint(parser)
    parser.add_argument('image', help='image file')
    parser.add_argument('--out', required=True, help='picture to write, .png or .jpg')
    parser.add_argument(
        '--queries', type=int_range(1), default=5, help='number of queries; default: %(default)s'
    )
    parser.add_argument(
        '--stride',
        type=int,
        choices=STRIDES,
        default=16,
        help='stride of the map; default: %(default)s',
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def load_image(model: nn.Module, cfg: Config, file: str) -> dict:
    """Load an image with the test pipeline, as a batch of one."""
    if not Path(file).is_file():
        raise UserError(f'the image {file} does not exist')
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if 'LoadAnnotations' not in step['type']])
    try:
        sample = pipeline(dict(img_path=file, img_id=0))
    except Exception as error:  # decoders raise different types
        raise UserError(f'{file} cannot be read as an image ({error})') from error
    return model.data_preprocessor(pseudo_collate([sample]))


def record_attention(block: nn.Module) -> list[Tensor]:
    """Return a list that receives the block's attention, (N, Q, H, W), whenever the block runs.

    The layer uses torch's fused attention, which returns no weights, so the weights are recomputed
    from the layer's inputs.
    """
    layer, weights, maps = block.to_former.attention, [], []

    def record(layer, args, output):
        inputs, attn_bias = args
        q, k, _ = layer.project_inputs(inputs)  # (N, h, Q, D/h) and (N, h, HW, D/h)
        logits = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
        logits = logits if attn_bias is None else logits + attn_bias
        weights.append(logits.softmax(3).mean(1))  # (N, Q, HW)

    def fold(block, args, output):
        maps.append(weights.pop().unflatten(2, args[0].map.shape[2:]))  # (N, Q, H, W)

    layer.register_forward_hook(record)
    block.register_forward_hook(fold)
    return maps


@torch.no_grad()
def find_objects(model: nn.Module, batch: dict, stride: int, number: int) -> list[tuple]:
    """Return (label, score, box, attention) of the queries with the highest scores.

    The box is x1, y1, x2, y2 in pixels; the attention (H, W) is scaled to a maximum of 1.
    """
    recorded = record_attention(model.decoder.scales[STRIDES.index(stride)][-1])
    logits, boxes = model(**batch, mode='tensor')  # (B, 1, Q, classes + 1 or 4)
    scores, labels = logits[-1, 0].softmax(1)[:, :-1].max(1)
    height, width = batch['inputs'].shape[2:]
    x, y, w, h = (boxes[-1, 0] * boxes.new_tensor([width, height, width, height])).unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    # Scale by the stride, then crop: the last positions of a map may exceed the image.
    best = scores.topk(min(number, len(scores))).indices
    maps = F.interpolate(recorded[0][:, best], scale_factor=stride, mode='bilinear')[0]
    maps = maps[:, :height, :width]
    maps = (maps / maps.amax((1, 2), keepdim=True)).cpu().numpy()
    return [
        (labels[i].item(), scores[i].item(), corners[i].tolist(), attention)
        for i, attention in zip(best.tolist(), maps, strict=True)
    ]


def denormalize(model: nn.Module, batch: dict) -> np.ndarray:
    """Return the model's input as (H, W, 3) uint8 RGB."""
    norm = model.data_preprocessor
    image = batch['inputs'][0] * norm.std + norm.mean
    return image.clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def draw(image: np.ndarray, objects: list[tuple], classes: list[str]) -> Image.Image:
    """Draw all boxes in one cell, then one cell for each query."""
    scale = max(1, -(-MIN_WIDTH // image.shape[1]))
    cells = [draw_boxes(image, objects, classes, scale)]
    for item in objects:
        heat = cv2.applyColorMap((255 * item[3]).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
        blended = (0.5 * image + 0.5 * heat).astype(np.uint8)
        cells.append(draw_boxes(blended, [item], classes, scale))
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new('RGB', (COLUMNS * width, rows * height), 'white')
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % COLUMNS * width, i // COLUMNS * height))
    return sheet


def draw_boxes(
    image: np.ndarray, objects: list[tuple], classes: list[str], scale: int
) -> Image.Image:
    picture = Image.fromarray(image)
    picture = picture.resize((scale * picture.width, scale * picture.height))
    pen = ImageDraw.Draw(picture)
    for label, score, box, _ in objects:
        box = [scale * edge for edge in box]
        pen.rectangle(box, outline='white', width=2)
        corner = (max(box[0], 0) + 4, max(box[1], 0) + 2)
        text = f'{classes[label]} {score:.2f}'
        pen.text(corner, text, fill='white', stroke_width=1, stroke_fill='black')
    return picture


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    out = check_out(args.out, ('.png', '.jpg', '.jpeg'), overwrite=False)
    cfg = load_config(args.config, options=args.cfg_options)
    name = cfg.get('model', {}).get('type')
    if name != 'finola_mm.MobileFormerDETR':
        raise UserError(
            f'the model of {args.config} is {name}; expected finola_mm.MobileFormerDETR, as in '
            'configs/det/detr_mf_dec522.py'
        )
    model = load_model(cfg, args.checkpoint)
    batch = load_image(model, cfg, args.image)
    objects = find_objects(model, batch, args.stride, args.queries)
    draw(denormalize(model, batch), objects, load_metainfo(cfg)['classes']).save(out)
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
