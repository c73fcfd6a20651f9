"""One training step of every kind of config, resumed and tested across environments.

    python tests/matrix/steps.py OUT                  # train and test one step of each kind
    python tests/matrix/steps.py OUT --from OTHER     # also resume and test OTHER's checkpoints

OTHER is the OUT of another environment: its checkpoints must resume here, and give here the metrics
that they gave there, to rounding. scripts/test_matrix.sh runs this in both directions. It uses only
mmpretrain, and no compiled ops of mmcv. The tools run in one process.
"""

import argparse
import json
import math
import runpy
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from mmengine.utils import ManagerMixin
from PIL import Image

ROOT = Path(__file__).parents[2]
CLASSES, SIZE = 6, 96
PRETRAINING = ('demo/masked_finola_b', 'study/masked_finola_e', 'demo/finola', 'demo/mocov2')
CLASSIFICATION = ('demo/cls_supervised', 'demo/cls_lin', 'demo/cls_tran1', 'demo/cls_tran1_ft')
KINDS = (*PRETRAINING, *CLASSIFICATION)
WITHOUT_TEST = ('demo/mocov2',)
TOLERANCE = 2e-3  # of a metric, relative: another torch adds in another order


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


def options(name: str, out: Path, steps: int) -> list[str]:
    """``--cfg-options`` for a few steps on the images of ``out``."""
    splits = ('train',) if name in WITHOUT_TEST else ('train', 'val', 'test')
    keys = ['batch_size=4', 'num_workers=0', 'persistent_workers=False']
    keys.append(f'dataset.dataset.data_root={out / "images"}')
    chosen = [f'{split}_dataloader.{key}' for split in splits for key in keys]
    chosen += [f'train_cfg.max_iters={steps}', 'default_hooks.checkpoint.interval=1']
    if name in CLASSIFICATION:
        chosen += [f'model.{part}.num_classes={CLASSES}' for part in ('head', 'data_preprocessor')]
    if name == 'demo/cls_tran1_ft':
        chosen.append(f'load_from={out / "demo/cls_tran1"}')
    return chosen


def train(name: str, out: Path) -> None:
    start = ['--pretrained', out / 'demo/masked_finola_b'] if 'cls_' in name[:-3] else []
    if name in ('demo/cls_supervised', 'demo/cls_tran1_ft'):
        start = []
    run_tool(
        'train',
        f'configs/{name}.py',
        '--no-validate',
        '--work-dir',
        out / name,
        *start,
        '--cfg-options',
        *options(name, out, 1),
    )


def test(name: str, checkpoint: Path, out: Path) -> dict[str, float]:
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
        *options(name, out, 1),
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
    assert (work_dir / 'iter_2.pth').is_file()


def compare(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys(), (found, expected)
    for key, value in expected.items():
        if not math.isclose(found[key], value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise AssertionError(f'{key} is {found[key]} here and {value} there')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--from', dest='other', type=Path, help='OUT of another environment')
    args = parser.parse_args()
    out = args.out.resolve()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    write_images(out / 'images')
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
            metrics[name] = check(f'{name}: test', test, name, out / name, out)
    (out / 'steps.json').write_text(json.dumps(metrics, indent=1))
    if args.other:
        other = args.other.resolve()
        expected = json.loads((other / 'steps.json').read_text())
        for name in KINDS:
            check(f'{name}: resume from {args.other.name}', resume, name, other / name, out)
            if name in WITHOUT_TEST:
                continue
            found = check(f'{name}: test from {args.other.name}', test, name, other / name, out)
            if found:
                check(f'{name}: metrics of {args.other.name}', compare, found, expected[name])
    for title, result in results:
        print(f'{result}  {title}')
    failed = sum(result == 'FAILED' for _, result in results)
    print(f'{len(results) - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
