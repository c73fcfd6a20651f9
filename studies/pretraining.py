"""Compare pre-training methods by the accuracy of the same small encoder on held-out shapes.

MobileFormer('small') is trained by five methods on the shapes (96 x 96 pixels, batch size 64) and
compared with a random encoder. Protocols: kNN and linear probing of the frozen encoder, a tran-1
decoder on the frozen encoder, fine-tuning, and fine-tuning with 10 % of the labels. The paper's
ranking in probing is masked-B > masked-E > vanilla (arXiv 2305.16319).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from study import Run, Step, read_log, train

CSV = 'studies/pretraining.csv'
SCORE = 'top1'  # accuracy in percent
COLUMNS = ('method', 'seed', 'steps', 'protocol', 'after', 'top1')

FEATURES = 'configs/study/finola.py'  # whole images of 96 x 96, for the features of all methods
METHODS = {
    'random': 'configs/study/finola.py',
    'supervised': 'configs/demo/cls_supervised.py',
    'MoCo v2': 'configs/study/mocov2.py',
    'FINOLA': 'configs/study/finola.py',
    'masked FINOLA-E': 'configs/study/masked_finola_e.py',
    'masked FINOLA-B': 'configs/study/masked_finola_b.py',
}
# The random encoder "trains" with a learning rate of 0, so that only BatchNorm's statistics change.
# RANDOM_INIT is the same encoder before that: a second baseline.
RANDOM_INIT = 'random, as drawn'
FROZEN_LR = {'optim_wrapper.optimizer.lr': 0, 'optim_wrapper.optimizer.weight_decay': 0}
FROZEN_STEPS = 50

PROTOCOLS = {
    'kNN': 'k = 20, frozen',
    'linear': 'logistic regression on the pooled map, frozen',
    'lin': "the paper's linear probing, frozen",
    'tran1': 'a tran-1 decoder, frozen',
    'tran1_ft': 'the same, then fine-tuned',
    'tran1_ft_10pct': 'fine-tuned on a tenth of the labels',
}
DETERMINISTIC = ('kNN', 'linear')  # the same figure for the same encoder
PROBE_STEPS = 300
LOW_SHOT = 'low_shot/train_10pct.txt'

# Long seed: about 40 minutes of one core for each method, evaluated after each eighth of the steps.
# Short seeds: an eighth of the steps, with their own schedule, and no trained probes.
LONG_SEED, SHORT_SEEDS = 0, (1, 2)
LONG_STEPS = {
    'supervised': 2400,
    'MoCo v2': 1600,
    'FINOLA': 1200,
    'masked FINOLA-E': 6000,
    'masked FINOLA-B': 6000,
}
NUM_EVALS = 8
DATA = 'data/shapes/imagenet'
PREPARE = [
    ['tools/dataset_converters/make_shapes.py', '--out', 'data/shapes'],
    ['tools/dataset_converters/draw_low_shot.py', f'{DATA}/train', '10'],
]


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for seed in (LONG_SEED, *SHORT_SEEDS):
        for method in reversed(METHODS):
            yield pretrain_and_eval(method, seed)


def pretrain_and_eval(method: str, seed: int) -> Run:
    """Pre-train and evaluate the features over time; then train probes (long seed only)."""
    steps = eval_steps(method, seed)
    return Run(
        dict(method=method, seed=seed, steps=steps[-1]),
        lambda work_dir: [
            pretrain(method, seed, steps, work_dir / 'pretraining'),
            *(features(method, seed, work_dir, after) for after in steps),
            *(probes(seed, steps[-1], work_dir) if seed == LONG_SEED else ()),
        ],
    )


def eval_steps(method: str, seed: int) -> range:
    """Return the steps after which the features are evaluated; the last one ends the training."""
    frozen = method in ('random', RANDOM_INIT)
    step = FROZEN_STEPS if frozen else LONG_STEPS[method] // NUM_EVALS
    end = step * NUM_EVALS if seed == LONG_SEED and not frozen else step
    return range(step, end + 1, step)


def pretrain(method: str, seed: int, steps: range, out: Path) -> Step:
    options = {
        'train_cfg.max_iters': steps[-1],
        'param_scheduler.1.T_max': steps[-1] - 30,
        'param_scheduler.1.end': steps[-1],
        'default_hooks.checkpoint.interval': steps[0],
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'randomness.seed': seed,
        **(FROZEN_LR if method == 'random' else {}),
    }
    return train(METHODS[method], options, out, '--no-validate')


def features(method: str, seed: int, work_dir: Path, after: int) -> Step:
    """Measure kNN and linear accuracy of the encoder after the given number of steps."""
    out = work_dir / f'features_{after}.json'
    checkpoint = str(work_dir / 'pretraining' / f'iter_{after}.pth')
    flags = ['--random', '--seed', str(seed)] if method == 'random' else []
    command = [
        'tools/analysis/knn.py',
        FEATURES,
        checkpoint,
        '--k',
        '20',
        '--linear',
        '--out',
        str(out),
        *flags,
    ]

    def scores(out: Path) -> list[dict]:
        encoders = json.loads(out.read_text())
        return [
            dict(
                method=RANDOM_INIT if encoder == 'random' else method,
                protocol=protocol,
                after=after,
                top1=f'{found[name][0]:.2f}',
            )
            for encoder, found in encoders.items()
            for protocol, name in (('kNN', 'k = 20'), ('linear', 'linear'))
        ]

    return Step(command, out, scores)


def probes(seed: int, after: int, work_dir: Path) -> list[Step]:
    """List the protocols that train; fine-tuning starts from the tran-1 probe."""
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
