"""Pre-train other encoders, ResNet-18 and MobileNetV3, on drawn shapes and photographed objects.

Masked FINOLA-B is compared with random weights, with MoCo v2 on the same ResNet-18, and with MAE on
a ViT-Ti (96 x 96 pixels, batch size 64). Protocols: kNN and linear
classifier on the frozen encoder, and fine-tuning. Shapes are those of studies/pretraining.py;
objects12 has photographed cut-outs of 12 classes on photographs (docs/photos.md).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pretraining import FROZEN_LR, FROZEN_STEPS
from study import Run, Step, read_log, train

CSV = 'studies/encoders.csv'
SCORE = 'top1'  # accuracy in percent
COLUMNS = ('data', 'encoder', 'method', 'seed', 'steps', 'protocol', 'top1')

SEED = 0
DATA = {'objects12': 'data/photos/cls/objects12', 'shapes': 'data/shapes/imagenet'}
# Pre-training config and the classification config with the same encoder
CONFIGS = {
    ('ResNet-18', 'masked FINOLA-B'): ('resnet18', 'cls_resnet18'),
    ('ResNet-18', 'MoCo v2'): ('mocov2_resnet18', 'cls_resnet18'),
    ('ResNet-18', 'random'): ('resnet18', 'cls_resnet18'),
    ('MobileNetV3-L', 'masked FINOLA-B'): ('mobilenetv3', 'cls_mobilenetv3'),
    ('MobileNetV3-L', 'random'): ('mobilenetv3', 'cls_mobilenetv3'),
    ('ViT-Ti/16', 'MAE'): ('mae_vit', 'cls_vit'),
    ('ViT-Ti/16', 'random'): ('mae_vit', 'cls_vit'),
}
# About the same training time as 6000 steps of ResNet-18 with masked FINOLA-B: 0.40 s a step, MAE
# 0.53 s, MoCo v2 0.88 s (medians on machine C of docs/results.md, two runs at a time)
STEPS = {
    'masked FINOLA-B': 6000,
    'MoCo v2': 2700,
    'MAE': 4500,
    'random': FROZEN_STEPS,
}
FINE_TUNING_STEPS = 150
PROTOCOLS = {
    'kNN': 'k = 20, frozen',
    'linear': 'logistic regression on the pooled map, frozen',
    'fine-tuned': f'the whole encoder, {FINE_TUNING_STEPS} steps',
}
PREPARE = [
    ['tools/dataset_converters/make_shapes.py', '--out', 'data/shapes'],
    ['tools/dataset_converters/make_photos.py', '--out', 'data/photos'],
]


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for encoder, method in CONFIGS:
        for data in DATA:
            yield pretrain_and_eval(data, encoder, method)


def pretrain_and_eval(data: str, encoder: str, method: str) -> Run:
    """Pre-train, evaluate the frozen features, and fine-tune."""
    pretraining, classification = (
        f'configs/study/any/{name}.py' for name in CONFIGS[encoder, method]
    )
    steps = STEPS[method]
    return Run(
        dict(data=data, encoder=encoder, method=method, seed=SEED, steps=steps),
        lambda work_dir: [
            train(
                pretraining,
                {
                    **schedule(steps),
                    **loaders(data, 'train'),
                    **(FROZEN_LR if method == 'random' else {}),
                },
                work_dir / 'pretraining',
                '--no-validate',
            ),
            features(classification, data, work_dir),
            train(
                classification,
                {
                    **schedule(FINE_TUNING_STEPS),
                    **loaders(data, 'train', 'val'),
                    'train_cfg.val_interval': FINE_TUNING_STEPS,
                    'optim_wrapper.optimizer.lr': 5e-4,
                    'load_from': None,
                },
                work_dir / 'fine_tuned',
                '--pretrained',
                str(work_dir / 'pretraining'),
                scores=fine_tuned_accuracy,
            ),
        ],
    )


def schedule(steps: int) -> dict:
    return {
        'train_cfg.max_iters': steps,
        'param_scheduler.1.T_max': steps - 30,
        'param_scheduler.1.end': steps,
        'default_hooks.checkpoint.interval': min(steps, 500),
        'randomness.seed': SEED,
    }


def loaders(data: str, *splits: str) -> dict:
    """Return the settings of the data loaders: the folder, and no worker processes."""
    settings = {}
    for split in splits:
        loader = f'{split}_dataloader'
        settings |= {
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
            f'{loader}.dataset.dataset.data_root': DATA[data],
        }
    return settings


def features(classification: str, data: str, work_dir: Path) -> Step:
    """Measure kNN and linear accuracy of the frozen encoder."""
    out = work_dir / 'features.json'
    options = [f'{name}={value}' for name, value in loaders(data, 'train', 'val').items()]
    command = [
        'tools/analysis/knn.py',
        classification,
        str(work_dir / 'pretraining'),
        '--k',
        '20',
        '--linear',
        '--out',
        str(out),
        '--cfg-options',
        *options,
    ]

    def scores(out: Path) -> list[dict]:
        (found,) = json.loads(out.read_text()).values()
        return [
            dict(protocol=protocol, top1=f'{found[name][0]:.2f}')
            for protocol, name in (('kNN', 'k = 20'), ('linear', 'linear'))
        ]

    return Step(command, out, scores)


def fine_tuned_accuracy(out: Path) -> list[dict]:
    return [
        dict(protocol='fine-tuned', top1=f'{read_log(out, "accuracy/top1")["accuracy/top1"]:.2f}')
    ]
