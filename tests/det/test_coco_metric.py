"""AP of the images that were evaluated, against pycocotools on a file cut to these images."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import Subset

import finola_mm.det  # noqa: F401 (registers the metric)
from finola_mm.apis import use_own_coco_metric
from finola_mm.datasets import SeededDataset
from finola_mm.datasets.validation import find_problems, read_annotations

CLASSES = ('cup', 'dog', 'kite')
CATEGORIES = (2, 5, 9)
ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
SIZE = (240, 180)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """(annotations, predictions by image id): 16 images, some without objects, one crowd.

    Some objects are found, some twice, some in the wrong place, and some objects do not exist.
    """
    rng = np.random.default_rng(0)
    content = dict(images=[], annotations=[], categories=[])
    for id_, name in zip(CATEGORIES, CLASSES, strict=True):
        content['categories'].append(dict(id=id_, name=name))
    predictions = {}
    for i in range(16):
        width, height = SIZE
        image = dict(id=100 + 7 * i, file_name=f'{i}.png', width=width, height=height)
        content['images'].append(image)
        found = []
        for _ in range(0 if i % 5 == 4 else rng.integers(1, 5)):
            x, y, w, h = rng.uniform((0, 0, 15, 15), (120, 80, 119, 99)).round(1).tolist()
            label = int(rng.integers(3))
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation = dict(id=len(content['annotations']) + 1, image_id=image['id'])
            annotation |= dict(category_id=CATEGORIES[label], bbox=[x, y, w, h], area=w * h)
            annotation |= dict(iscrowd=0, segmentation=[corners])
            content['annotations'].append(annotation)
            first = len(content['annotations']) == 1
            for _ in range(max(rng.integers(3), first)):  # the first one is found
                found.append(
                    (label, np.array([x, y, x + w, y + h]) + rng.normal(0, 0 if first else 4, 4))
                )
        found.append((int(rng.integers(3)), np.array([5.0, 5, 50, 60])))
        scores = rng.uniform(size=len(found))
        predictions[image['id']] = [
            (label, np.sort(box.reshape(2, 2), 0).ravel(), score)
            for (label, box), score in zip(found, scores, strict=True)
        ]
    content['annotations'][3] |= dict(iscrowd=1)
    return content, predictions


@pytest.fixture
def root(tmp_path, scenes):
    """A COCO directory; ``write`` writes its annotation file."""
    for image in scenes[0]['images']:
        Image.new('RGB', SIZE).save(tmp_path / image['file_name'])
    write(tmp_path, scenes[0])
    return tmp_path


def write(root, content):
    (root / 'a.json').write_text(json.dumps(content))


def masks(boxes):
    """(n, H, W): the pixels whose centres are inside the boxes."""
    x, y = np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5
    x0, y0, x1, y1 = np.array(boxes).reshape(-1, 4).T[..., None]
    across, down = (x0 <= x) & (x < x1), (y0 <= y) & (y < y1)
    return down[:, :, None] & across[:, None]


def right_ap(root, scenes, chosen, kind='bbox'):
    """pycocotools' six APs, or average recall, with a file that holds only the chosen images."""
    content, predictions = scenes
    ids = {content['images'][i]['id'] for i in chosen}
    cut = dict(
        images=[image for image in content['images'] if image['id'] in ids],
        annotations=[a for a in content['annotations'] if a['image_id'] in ids],
        categories=content['categories'],
    )
    file = root / 'cut.json'
    file.write_text(json.dumps(cut))
    results = []
    for id_ in ids:
        for label, (x0, y0, x1, y1), score in predictions[id_]:
            result = dict(image_id=id_, category_id=CATEGORIES[label], score=score)
            if kind != 'segm':
                result['bbox'] = [x0, y0, x1 - x0, y1 - y0]
            else:
                mask = np.asfortranarray(masks([x0, y0, x1, y1])[0], np.uint8)
                result['segmentation'] = coco_mask.encode(mask)
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
        judge = COCOeval(truth, truth.loadRes(results), 'segm' if kind == 'segm' else 'bbox')
        judge.params.useCats = int(kind != 'proposal')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    stats = [round(value, 3) for value in judge.stats]
    return stats[8] if kind == 'proposal' else stats[:6]


class Oracle(BaseModel):
    """A detector that knows its predictions."""

    def __init__(self, predictions):
        super().__init__()
        self.predictions = predictions

    def forward(self, inputs, data_samples, mode):
        for sample in data_samples:
            labels, boxes, scores = zip(*self.predictions[sample.img_id], strict=True)
            sample.pred_instances = InstanceData(
                labels=torch.tensor(labels),
                bboxes=torch.tensor(np.array(boxes)),
                scores=torch.tensor(scores, dtype=torch.float64),
                masks=torch.from_numpy(masks(boxes)),
            )
        return data_samples


def coco_dataset(root, **settings):
    return CocoDataset(
        data_root=str(root),
        ann_file='a.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'ori_shape')),
        ],
        **{'test_mode': True, **settings},
    )


def evaluate(dataset, predictions, work_dir, **settings):
    runner = Runner(
        model=Oracle(predictions),
        work_dir=str(work_dir),
        test_dataloader=dict(dataset=dataset, batch_size=3, num_workers=0, sampler=dict(
            type='DefaultSampler', shuffle=False)),
        test_cfg=dict(),
        test_evaluator=dict(type='finola_mm.CocoMetric', **settings),
        default_scope='mmdet',
        log_level='WARNING',
    )  # fmt: skip
    return runner.test()


def values(metrics, kind='bbox'):
    return [metrics[f'coco/{kind}_{item}'] for item in ITEMS]


class TorchSubset(Subset):
    metainfo = dict(classes=CLASSES)  # read by MMEngine


SUBSETS = {
    'all': (coco_dataset, range(16)),
    'first': (lambda root: coco_dataset(root, indices=6), range(6)),
    'last': (lambda root: coco_dataset(root, indices=-5), range(11, 16)),
    'listed': (lambda root: coco_dataset(root, indices=[9, 2, 12]), (2, 9, 12)),
    'subset of torch': (lambda root: TorchSubset(coco_dataset(root), [1, 3, 8]), (1, 3, 8)),
    'seeded': (lambda root: SeededDataset(coco_dataset(root, indices=7)), range(7)),
    'parts': (
        lambda root: ConcatDataset([coco_dataset(root, indices=i) for i in ([0, 1], [10, 6])]),
        (0, 1, 6, 10),
    ),
    'twice': (lambda root: RepeatDataset(coco_dataset(root, indices=8), 2), range(8)),
    'without empty images': (
        lambda root: coco_dataset(
            root, test_mode=False, filter_cfg=dict(filter_empty_gt=True), indices=11
        ),
        [i for i in range(13) if i % 5 < 4],
    ),
}


@pytest.mark.parametrize('subset', SUBSETS)
def test_ap_of_the_evaluated_images(root, scenes, subset):
    make, chosen = SUBSETS[subset]
    found = values(evaluate(make(root), scenes[1], root / 'run', ann_file=str(root / 'a.json')))
    expected = right_ap(root, scenes, chosen)
    assert found == expected and 0.1 < expected[0] < 0.9


def test_labels_that_come_with_the_images(root, scenes):
    """Without an annotation file, mmdet collects the labels of the images that it sees."""
    dataset = coco_dataset(root, indices=6)
    keys = ('img_id', 'ori_shape', 'instances')
    dataset.pipeline.transforms[1].meta_keys = keys
    assert values(evaluate(dataset, scenes[1], root)) == right_ap(root, scenes, range(6))


@pytest.mark.parametrize('faster', [False, True])
def test_masks_and_several_metrics(root, scenes, faster):
    """Sizes may be written as 240.0, which pycocotools would not accept for masks."""
    if faster:
        pytest.importorskip('faster_coco_eval')
    content = json.loads(json.dumps(scenes[0]))
    for image in content['images']:
        image.update(width=240.0, height=180.0)
    write(root, content)
    settings = dict(ann_file=str(root / 'a.json'), classwise=True, metric=['bbox', 'segm'])
    settings['faster'] = faster
    found = evaluate(coco_dataset(root, indices=9), scenes[1], root, **settings)
    assert values(found) == right_ap(root, scenes, range(9))
    assert values(found, 'segm') == right_ap(root, scenes, range(9), 'segm')
    by_class = [  # of masks, which mmdet judges last
        found[f'coco/{name}_precision'] for name in CLASSES
    ]
    assert np.mean(by_class) == pytest.approx(found['coco/segm_mAP'], abs=1e-3)


def test_proposals(root, scenes):
    settings = dict(ann_file=str(root / 'a.json'), metric='proposal')
    found = evaluate(coco_dataset(root, indices=9), scenes[1], root, **settings)
    assert found['coco/AR@100'] == right_ap(root, scenes, range(9), 'proposal')


def test_results_for_a_server(root, scenes):
    """A test file has no annotations; the results have the ids of the file."""
    write(root, {key: scenes[0][key] for key in ('images', 'categories')})
    settings = dict(format_only=True, outfile_prefix=str(root / 'out'))
    found = evaluate(
        coco_dataset(root, indices=3), scenes[1], root, ann_file=str(root / 'a.json'), **settings
    )
    results = json.loads((root / 'out.bbox.json').read_text())
    assert not found and {result['image_id'] for result in results} == {100, 107, 114}
    assert {result['category_id'] for result in results} <= set(CATEGORIES)


def renamed(content, predictions, change, *, images=False, annotations=False, categories=False):
    """Copies with other ids; ``change`` is called with 0, 1, 2, … in the order of the file."""
    content = json.loads(json.dumps(content))
    if annotations:
        for i, annotation in enumerate(content['annotations']):
            annotation['id'] = change(i)
    for records, field, wanted in (
        (content['images'], 'image_id', images),
        (content['categories'], 'category_id', categories),
    ):
        new = {record['id']: change(i) for i, record in enumerate(records)} if wanted else {}
        for record in records:
            record['id'] = new.get(record['id'], record['id'])
        for annotation in content['annotations']:
            annotation[field] = new.get(annotation[field], annotation[field])
        if wanted and images:
            predictions = {new[id_]: found for id_, found in predictions.items()}
    return content, predictions


@pytest.mark.parametrize(
    ('kind', 'change'),
    [
        ('annotations', lambda i: i),
        ('annotations', lambda i: -i),
        ('annotations', float),
        ('annotations', lambda i: f'a{i}'),
        ('annotations', lambda i: 10**400 + i),
        ('annotations', lambda i: str(i) if i % 2 else i),
        ('images', lambda i: i),
        ('images', lambda i: -i),
        ('images', lambda i: f'a{i:02}'),
        ('images', lambda i: i + 2**63 if i % 2 else i),  # NumPy's common type is a float
        ('images', lambda i: 2**53 + i if i % 2 else float(i)),
        ('categories', lambda i: i),
        ('categories', lambda i: i - 1),
    ],
)
def test_ids_of_every_kind(root, scenes, kind, change):
    expected = right_ap(root, scenes, range(16))  # with ids as in COCO
    content, predictions = renamed(*scenes, change, **{kind: True})
    write(root, content)
    checked = read_annotations(root / 'a.json')
    assert not [p for p in find_problems(checked, CLASSES) if p.fatal]
    settings = dict(ann_file=str(root / 'a.json'), classwise=True)
    assert values(evaluate(coco_dataset(root), predictions, root, **settings)) == expected


def test_the_tools_replace_the_metric_of_mmdet():
    cfg = Config(
        dict(
            default_scope='mmdet',
            custom_imports=dict(imports='finola_mm.backbones', allow_failed_imports=False),
            val_evaluator=dict(type='CocoMetric', ann_file='a.json'),
            test_evaluator=(dict(type='mmdet.CocoMetric'), dict(type='mmpose.CocoMetric')),
        )
    )
    use_own_coco_metric(cfg)
    assert cfg.val_evaluator == dict(type='finola_mm.CocoMetric', ann_file='a.json')
    assert [metric.type for metric in cfg.test_evaluator] == [
        'finola_mm.CocoMetric',
        'mmpose.CocoMetric',
    ]
    assert {'finola_mm.backbones', 'finola_mm.det'} == set(cfg.custom_imports.imports)
    others = Config(dict(default_scope='mmpose', val_evaluator=dict(type='CocoMetric')))
    use_own_coco_metric(others)
    assert others.val_evaluator.type == 'CocoMetric' and 'custom_imports' not in others
