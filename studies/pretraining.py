"""What does each pre-training leave in the same small encoder, judged with labels?

Five ways to train MobileFormer('small') on the shapes, 96 x 96 pixels, batches of 64, and none.
What a frozen encoder gives to its nearest neighbours and to linear probing, what a tran-1 decoder
makes of it frozen and fine-tuned, and with a tenth of the labels. Accuracy on held-out shapes; the
paper's order in probing is masked-B > masked-E > vanilla (arXiv 2305.16319).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from study import Run, Step, read_log, train

CSV = 'studies/pretraining.csv'
SCORE = 'top1'  # accuracy in percent
COLUMNS = ('method', 'seed', 'steps', 'protocol', 'after', 'top1')

MEASURE = 'configs/study/finola.py'  # whole images of 96 x 96, for every method's features
METHODS = {
    'random': 'configs/study/finola.py',
    'supervised': 'configs/demo/cls_supervised.py',
    'MoCo v2': 'configs/study/mocov2.py',
    'FINOLA': 'configs/study/finola.py',
    'masked FINOLA-E': 'configs/study/masked_finola_e.py',
    'masked FINOLA-B': 'configs/study/masked_finola_b.py',
}
# A random encoder "trains" without a learning rate: BatchNorm takes the statistics of these
# batches. The features as they are before that are a floor, too.
AS_DRAWN = 'random, as drawn'
STILL = {'optim_wrapper.optimizer.lr': 0, 'optim_wrapper.optimizer.weight_decay': 0}
STILL_STEPS = 50

PROTOCOLS = {
    'kNN': 'k = 20, frozen',
    'linear': 'logistic regression on the pooled map, frozen',
    'lin': "the paper's linear probing, frozen",
    'tran1': 'a tran-1 decoder, frozen',
    'tran1_ft': 'the same, then fine-tuned',
    'tran1_ft_10pct': 'fine-tuned on a tenth of the labels',
}
WITHOUT_CHANCE = ('kNN', 'linear')  # the same figure for the same encoder
PROBE_STEPS = 300
LOW_SHOT = 'low_shot/train_10pct.txt'

# The long seed: about 40 minutes of one core for each method, with a point of its curve at every
# eighth. The short ones: an eighth of it, a schedule of their own, judged without training a probe.
LONG_SEED, SHORT_SEEDS = 0, (1, 2)
LONG = {
    'supervised': 2400,
    'MoCo v2': 1600,
    'FINOLA': 1200,
    'masked FINOLA-E': 6000,
    'masked FINOLA-B': 6000,
}
POINTS = 8
DATA = 'data/shapes/imagenet'
PREPARE = [
    ['tools/dataset_converters/make_shapes.py', '--out', 'data/shapes'],
    ['tools/dataset_converters/draw_low_shot.py', f'{DATA}/train', '10'],
]


def runs() -> Iterator[Run]:
    """Every run, in the order in which they are wanted."""
    for seed in (LONG_SEED, *SHORT_SEEDS):
        for method in reversed(METHODS):
            yield judged(method, seed)


def judged(method: str, seed: int) -> Run:
    """Pre-training, the curve of its features, then (the long seed) probes on its last state."""
    every = points(method, seed)
    return Run(
        dict(method=method, seed=seed, steps=every[-1]),
        lambda work_dir: [
            pretrain(method, seed, every, work_dir / 'pretraining'),
            *(features(method, seed, work_dir, after) for after in every),
            *(probes(seed, every[-1], work_dir) if seed == LONG_SEED else ()),
        ],
    )


def points(method: str, seed: int) -> range:
    """The steps after which the features are judged; the last of them is the end."""
    still = method in ('random', AS_DRAWN)
    step = STILL_STEPS if still else LONG[method] // POINTS
    end = step * POINTS if seed == LONG_SEED and not still else step
    return range(step, end + 1, step)


def pretrain(method: str, seed: int, every: range, out: Path) -> Step:
    options = {
        'train_cfg.max_iters': every[-1],
        'param_scheduler.1.T_max': every[-1] - 30,
        'param_scheduler.1.end': every[-1],
        'default_hooks.checkpoint.interval': every[0],
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'randomness.seed': seed,
        **(STILL if method == 'random' else {}),
    }
    return train(METHODS[method], options, out, '--no-validate')


def features(method: str, seed: int, work_dir: Path, after: int) -> Step:
    """kNN and linear accuracy of the encoder after so many steps."""
    out = work_dir / f'features_{after}.json'
    checkpoint = str(work_dir / 'pretraining' / f'iter_{after}.pth')
    switches = ['--random', '--seed', str(seed)] if method == 'random' else []
    command = [
        'tools/analysis/knn.py',
        MEASURE,
        checkpoint,
        '--k',
        '20',
        '--linear',
        '--out',
        str(out),
        *switches,
    ]

    def scores(out: Path) -> list[dict]:
        encoders = json.loads(out.read_text())
        return [
            dict(
                method=AS_DRAWN if encoder == 'random' else method,
                protocol=protocol,
                after=after,
                top1=f'{found[name][0]:.2f}',
            )
            for encoder, found in encoders.items()
            for protocol, name in (('kNN', 'k = 20'), ('linear', 'linear'))
        ]

    return Step(command, out, scores)


def probes(seed: int, after: int, work_dir: Path) -> list[Step]:
    """The protocols that train; a fine-tuning starts from the probe before it."""
    options = {
        'train_cfg.max_iters': PROBE_STEPS,
        'train_cfg.val_interval': PROBE_STEPS,
        'param_scheduler.1.T_max': PROBE_STEPS - 30,
        'param_scheduler.1.end': PROBE_STEPS,
        'default_hooks.checkpoint.interval': PROBE_STEPS,
        'randomness.seed': seed,
        **{
            f'{split}_dataloader.{name}': value
            for split in ('train', 'val')
            for name, value in (('num_workers', 0), ('persistent_workers', False))
        },
    }
    few = {**options, 'load_from': None, 'train_dataloader.dataset.dataset.ann_file': LOW_SHOT}
    fine = {**options, 'load_from': work_dir / 'tran1'}
    encoder = ['--pretrained', str(work_dir / 'pretraining')]

    def scores(out: Path) -> list[dict]:
        top1 = read_log(out, 'accuracy/top1')['accuracy/top1']
        return [dict(protocol=out.name, after=after, top1=f'{top1:.2f}')]

    return [
        train(f'configs/demo/cls_{config}.py', settings, work_dir / name, *start, scores=scores)
        for name, config, settings, start in (
            ('lin', 'lin', options, encoder),
            ('tran1', 'tran1', options, encoder),
            ('tran1_ft', 'tran1_ft', fine, []),
            ('tran1_ft_10pct', 'tran1_ft', few, encoder),
        )
    ]
