"""One training step of every kind of config, resumed and tested across environments.

    python tests/matrix/steps.py OUT                  # train and test one step of each kind
    python tests/matrix/steps.py OUT --from OTHER     # also resume and test OTHER's checkpoints

OTHER is the OUT of another environment: its checkpoints must resume here, and give here, on its
images, the metrics that they gave there, to rounding. scripts/test_matrix.sh runs this in both
directions. Detection is left out where mmcv has no compiled ops. The tools run in one process.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.utils import ManagerMixin
from PIL import Image

from finola_mm.datasets.shape_classes import NAMES, load_photographs
from finola_mm.datasets.shapes import draw, multi_object_scene
from tests.conftest import TORCHRUN_WORKS

CLASSES, SIZE = 6, 96
PRETRAINING = ('demo/masked_finola_b', 'study/masked_finola_e', 'demo/finola', 'demo/mocov2')
CLASSIFICATION = ('demo/cls_supervised', 'demo/cls_lin', 'demo/cls_tran1', 'demo/cls_tran1_ft')
DETECTION = ('demo/det_mf_dec211',)
KINDS = (*PRETRAINING, *CLASSIFICATION, *(DETECTION if find_spec('mmcv._ext') else ()))
WITHOUT_TEST = ('demo/mocov2',)
TOLERANCE = 1e-6  # of a metric, relative: another torch adds in another order; 1e-8 was found


def write_images(root: Path) -> None:
    """An ImageNet-style root of smooth random images, which OpenCV and Pillow decode alike."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 2), ('val', 1)):
        for label in range(CLASSES):
            (root / split / f'class_{label}').mkdir(parents=True, exist_ok=True)
            for i in range(count):
                coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
                image = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                image.save(root / split / f'class_{label}/{i}.png')


def write_scenes(root: Path) -> None:
    """A COCO root of generated scenes, 4 to train on and 16 to test. Lossless, as above."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 16)):
        (root / f'{split}2017').mkdir(parents=True, exist_ok=True)
        images, objects = [], []
        for i in range(count):
            scene = draw(multi_object_scene(rng, (180, 240)), load_photographs(split))
            Image.fromarray(scene.image).save(root / f'{split}2017/{i}.png')
            images.append(dict(id=i, file_name=f'{i}.png', height=180, width=240))
            for label, box in zip(scene.labels.tolist(), scene.boxes.tolist(), strict=True):
                place = dict(bbox=box, area=box[2] * box[3], iscrowd=0)
                objects.append(dict(id=len(objects), image_id=i, category_id=label, **place))
        categories = [dict(id=label, name=name) for label, name in enumerate(NAMES)]
        (root / 'annotations').mkdir(exist_ok=True)
        (root / f'annotations/instances_{split}2017.json').write_text(
            json.dumps(dict(images=images, annotations=objects, categories=categories))
        )


def run_tool(name: str, *args: object) -> None:
    """Run tools/NAME.py in this process."""
    forget_runs()
    sys.argv = [f'tools/{name}.py', *map(str, args)]
    runpy.run_path(sys.argv[0], run_name='__main__')


def forget_runs(manager: type = ManagerMixin) -> None:
    """Remove the instances by which MMEngine knows earlier runs."""
    for kind in manager.__subclasses__():
        forget_runs(kind)
        kind._instance_dict.clear()


def options(name: str, data: Path, steps: int) -> list[str]:
    """``--cfg-options`` for a few steps on the images of ``data``; an epoch of scenes is a step."""
    splits = ('train',) if name in WITHOUT_TEST else ('train', 'val', 'test')
    keys = ['batch_size=4', 'num_workers=0', 'persistent_workers=False']
    chosen = [f'{split}_dataloader.{key}' for split in splits for key in keys]
    chosen.append('default_hooks.checkpoint.interval=1')
    if name in DETECTION:
        scenes = data / 'scenes'
        chosen += [
            f'train_cfg.max_epochs={steps}',
            f'train_dataloader.dataset.dataset.data_root={scenes}',
        ]
        for split in ('val', 'test'):
            file = scenes / 'annotations/instances_val2017.json'
            chosen.append(f'{split}_dataloader.dataset.data_root={scenes}')
            chosen.append(f'{split}_evaluator.ann_file={file}')
        return chosen
    chosen.append(f'train_cfg.max_iters={steps}')
    for split in splits:
        chosen.append(f'{split}_dataloader.dataset.dataset.data_root={data / "images"}')
    if name in CLASSIFICATION:
        chosen += [f'model.{part}.num_classes={CLASSES}' for part in ('head', 'data_preprocessor')]
        chosen.append('test_evaluator.topk=(1,2,3,4,5)')  # after one step, the ranks tell more
    return chosen


def train(name: str, out: Path) -> None:
    """Train one step. Shipped weights tell images apart, so that metrics depend on the images."""
    start: list[object] = []
    more = []
    if name in ('demo/cls_lin', 'demo/cls_tran1'):
        start = ['--pretrained', 'masked_finola_b_shapes']
    elif name == 'demo/cls_tran1_ft':
        more = [f'load_from={out / "demo/cls_tran1"}']
    elif name in DETECTION:
        more = ['load_from=det_mf_dec211_shapes']
    run_tool(
        'train',
        f'configs/{name}.py',
        '--no-validate',
        '--work-dir',
        out / name,
        *start,
        '--cfg-options',
        *options(name, out, 1),
        *more,
    )


def train_on_two_ranks(name: str, out: Path) -> None:
    """Train one step on two CPU ranks of this environment."""
    command = ['tools/dist_train.sh', f'configs/{name}.py', '2', '--no-validate']
    command += ['--work-dir', f'{out}/two_ranks', '--cfg-options', *options(name, out, 1)]
    subprocess.run(command, env={**os.environ, 'PYTHON': sys.executable}, check=True)


def test(name: str, checkpoint: Path, data: Path, out: Path) -> dict[str, float]:
    """Return the metrics of a checkpoint."""
    file = out / 'metrics.json'
    run_tool(
        'test',
        f'configs/{name}.py',
        checkpoint,
        '--work-dir',
        out / 'test',
        '--out',
        file,
        '--cfg-options',
        *options(name, data, 1),
    )
    return json.loads(file.read_text())


def resume(name: str, checkpoint: Path, out: Path) -> None:
    work_dir = out / 'resumed' / name
    run_tool(
        'train',
        f'configs/{name}.py',
        '--no-validate',
        '--work-dir',
        work_dir,
        '--resume',
        checkpoint,
        '--cfg-options',
        *options(name, out, 2),
    )
    assert (work_dir / f'{"epoch" if name in DETECTION else "iter"}_2.pth').is_file()


def compare(found: dict[str, float], expected: dict[str, float]) -> str:
    """Return the largest relative difference of two results; raise if it exceeds rounding."""
    assert found.keys() == expected.keys(), (found, expected)
    differences = {
        key: abs(found[key] - value) / max(abs(value), 1) for key, value in expected.items()
    }
    key = max(differences, key=lambda key: differences[key])
    summary = f'{key} {found[key]} here, {expected[key]} there: {differences[key]:.1e}'
    assert differences[key] <= TOLERANCE, summary
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--from', dest='other', type=Path, help='OUT of another environment')
    args = parser.parse_args()
    out = args.out.resolve()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    write_images(out / 'images')
    write_scenes(out / 'scenes')
    metrics, results = {}, []

    def check(title: str, function, *arguments):
        try:
            value = function(*arguments)
        except BaseException:
            traceback.print_exc()
            results.append((title, 'FAILED'))
            return None
        results.append((title, 'passed'))
        return value

    for name in KINDS:
        check(f'{name}: train', train, name, out)
        if name not in WITHOUT_TEST:
            metrics[name] = check(f'{name}: test', test, name, out / name, out, out)
    if TORCHRUN_WORKS:
        check('two ranks: train', train_on_two_ranks, 'demo/cls_supervised', out)
    (out / 'steps.json').write_text(json.dumps(metrics, indent=1))
    if args.other:
        other = args.other.resolve()
        expected = json.loads((other / 'steps.json').read_text())
        both = [name for name in KINDS if (other / name).is_dir()]
        for name in both:
            check(f'{name}: resume from {other.name}', resume, name, other / name, out)
        for name in (name for name in both if name in expected):
            title = f'{name}: test from {other.name}'
            found = check(title, test, name, other / name, other, out)
            if found and expected[name]:
                print(name, check(f'{title}, metrics', compare, found, expected[name]))
    for title, result in results:
        print(f'{result}  {title}')
    failed = sum(result == 'FAILED' for _, result in results)
    print(f'{len(results) - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
