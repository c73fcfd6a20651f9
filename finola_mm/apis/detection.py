"""mmdet's inferencer with strict and safe weight loading. Requires mmdet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmdet.apis import DetInferencer
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope

from ..engine import find_checkpoint, format_other_classes, load_weights
from ..errors import UserError
from .cpu import optimize_for_cpu
from .inference import load_metainfo


class StrictDetInferencer(DetInferencer):
    """mmdet's ``DetInferencer`` for any detector, with three differences.

    Every tensor of the model must be in the checkpoint, which is read without running code. The
    class names are those of the config, and the JSON results contain them as ``names``. Inputs are
    image files, which are read by the config's loader; mmdet's inferencer uses mmcv's.

    Args:
        cfg (Config): The config of a detector.
        checkpoint (str): A checkpoint file, or a work directory, whose last checkpoint is used.
    """

    def __init__(self, cfg: Config, checkpoint: str):
        scope = cfg.get('default_scope', 'mmdet')
        init_default_scope(scope)
        name = cfg.get('model', {}).get('type')
        kind = MODELS.get(name if '.' in name else f'{scope}.{name}') if name else None
        if kind is None or not issubclass(kind, BaseDetector):
            raise UserError(
                f'expected the config of a detector; the model of {cfg.filename} is {name}'
            )
        self.checkpoint = find_checkpoint(checkpoint)
        super().__init__(model=cfg, scope=scope)
        optimize_for_cpu(self.model)

    def _load_weights_to_model(self, model: BaseDetector, checkpoint: Any, cfg: Config) -> None:
        metadata = load_weights(model, self.checkpoint, allow_unused=False)
        meta = model.dataset_meta = load_metainfo(cfg)
        if other := format_other_classes(metadata, meta['classes']):
            raise UserError(f'{self.checkpoint} {other}')
        # A palette made for other classes may have too few colours.
        if len(meta.get('palette', ())) < len(meta['classes']):
            meta['palette'] = 'random'

    def _init_pipeline(self, cfg: Config) -> Compose:
        # mmdet would replace the config's loader by one that reads by mmcv.
        steps = cfg.test_dataloader.dataset.pipeline
        transforms = Compose(steps).transforms
        self.load = next(
            transform
            for transform, step in zip(transforms, steps, strict=True)
            if step['type'].rpartition('.')[2] == 'LoadImageFromFile'
        )
        return Compose([lambda path: dict(img_path=path), *transforms])

    def visualize(self, inputs: Sequence[str], preds: Sequence, **options: Any) -> None:
        """Draw on the images as the detector sees them, to ``img_out_dir/vis``, if it is given."""
        folder, score = options['img_out_dir'], options['pred_score_thr']
        for path, pred in zip(inputs, preds, strict=True) if folder else ():
            image = self.load(dict(img_path=path))['img'][..., ::-1]  # RGB
            out = Path(folder, 'vis', Path(path).name)
            if not cv2.haveImageWriter(out.name):
                out = out.with_suffix('.png')
            draw = self.visualizer.add_datasample
            draw(out.name, image, pred, draw_gt=False, pred_score_thr=score, out_file=str(out))

    def pred2dict(self, data_sample: Any, pred_out_dir: str = '') -> dict:
        result = super().pred2dict(data_sample, pred_out_dir)
        classes = self.model.dataset_meta['classes']
        result['names'] = [classes[label] for label in result.get('labels', ())]
        if pred_out_dir:
            file = Path(pred_out_dir, 'preds', f'{Path(data_sample.img_path).stem}.json')
            file.write_text(json.dumps(result))
        return result
