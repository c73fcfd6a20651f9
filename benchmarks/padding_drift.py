"""Measure how padding changes the detections of an image.

    python benchmarks/padding_drift.py [CONFIG] [CHECKPOINT] [--images 32]

A batch pads its images to the size of the largest one. Padding is masked throughout the decoder
and, as in our configs, in the encoder (`masked`): detections then change by rounding only.
`unmasked` gives the encoder no mask, like other detectors of mmdet. Each image is padded at the
right and at the bottom to a multiple of its sides, and compared with the image alone:

* maps: root mean square of the difference over that of the feature map, at strides 8 and 16;
* score, box: largest class score, and the four box corners in pixels, of the five queries with the
  highest scores in each image: mean and maximum of the absolute differences;
* class: share of those queries whose class changes.

The default detector is that of demo/. Random weights would show little: the drift comes through the
tokens, whose effect is learned.
"""

import argparse
import math

import torch
from machine import machine
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from finola_mm.apis import load_config
from finola_mm.engine import find_checkpoint, load_weights
from finola_mm.functional import downsample_mask

CONFIG = 'configs/demo/det_mf_dec211.py'
CHECKPOINT = 'demo/det_mf_dec211_shapes-20d0b828.safetensors'
SHARES = (1.1, 1.25, 1.5, 2.0)
BEST = 5  # queries per image that are compared


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', default=CONFIG)
    parser.add_argument('checkpoint', nargs='?', default=CHECKPOINT)
    parser.add_argument('--images', type=int, default=32)
    args = parser.parse_args()
    if args.config != CONFIG and args.checkpoint == CHECKPOINT:
        parser.error(f'pass the CHECKPOINT of {args.config}; the default is that of {CONFIG}')
    return args


def load_images(cfg: Config, count: int, preprocess) -> list[dict]:
    """Load the first validation images, each as a batch of one."""
    dataset = DATASETS.build({**cfg.val_dataloader.dataset, 'indices': count})
    return [preprocess(pseudo_collate([dataset[i]])) for i in range(len(dataset))]


def padded(batch: dict, share: float) -> torch.Tensor:
    """Pad an image (1, 3, H, W) at the right and bottom by zeros, the mean colour."""
    image = batch['inputs']
    height, width = (round(share * side) for side in image.shape[2:])
    larger = image.new_zeros(1, 3, height, width)
    larger[:, :, : image.shape[2], : image.shape[3]] = image
    return larger


@torch.no_grad()
def predict(model, images: torch.Tensor, samples: list, masked: bool = True):
    """Return maps (strides 8, 16) without padding, class scores (Q, classes) and boxes (Q, 4)."""
    mask = model.padding_mask(images, samples)
    feats = model.extract_feat(images, mask if masked else None)
    queries = model.decoder(feats, downsample_mask(mask, 8))
    scores, boxes = model.bbox_head(queries[-1:])
    height, width = samples[0].img_shape[:2]
    own = [
        feat[0, :, : math.ceil(height / stride), : math.ceil(width / stride)]
        for feat, stride in zip(feats, (8, 16), strict=True)
    ]
    scale = boxes.new_tensor([width, height, width, height])
    return own, scores[0, 0].softmax(-1)[:, :-1], boxes[0, 0] * scale


def drift(model, batches: list[dict], share: float, masked: bool) -> list[float]:
    """Return maps at strides 8 and 16, scores and boxes (mean, maximum), and classes."""
    maps, scores, boxes, classes = [], [], [], []
    for batch in batches:
        samples = batch['data_samples']
        alone = predict(model, batch['inputs'], samples)
        other = predict(model, padded(batch, share), samples, masked)
        pairs = zip(alone[0], other[0], strict=True)
        maps.append([float((a - b).norm() / a.norm()) for a, b in pairs])
        best = alone[1].amax(1).topk(BEST).indices
        scores.append((alone[1].amax(1) - other[1].amax(1))[best].abs())
        boxes.append((corners(alone[2]) - corners(other[2]))[best].abs())
        classes.append((alone[1].argmax(1) != other[1].argmax(1))[best])
    fine, coarse = torch.tensor(maps).mean(0).tolist()
    scores, boxes = torch.cat(scores), torch.cat(boxes)
    changed = torch.cat(classes).float().mean()
    return [
        fine,
        coarse,
        *(float(v) for v in (scores.mean(), scores.max(), boxes.mean(), boxes.max(), changed)),
    ]


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Convert centre, width, height (Q, 4) to corners (Q, 4)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model).eval()
    batches = load_images(cfg, args.images, model.data_preprocessor)
    load_weights(model, find_checkpoint(args.checkpoint), allow_unused=False)
    print(machine())
    print(f'{args.config}, {args.checkpoint}, {len(batches)} images')
    print('share  encoder   map 8   map 16   score (max)       box, pixels (max)   class')
    row_format = '{:5} {:>8}  {:6.4f}   {:6.4f}   {:.4f} ({:.4f})   {:8.3f} ({:.3f})    {:7.1%}'
    for share in SHARES:
        for masked in (False, True):
            row = drift(model, batches, share, masked)
            print(row_format.format(share, 'masked' if masked else 'unmasked', *row))


if __name__ == '__main__':
    main()
