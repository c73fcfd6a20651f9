"""Compare pre-training methods by detection: MF-Dec-211 on the same small encoder, drawn scenes.

A decoder is trained on the frozen encoder, as in the paper's probing (arXiv 2305.16319, Section
5.1). Then decoder and encoder are fine-tuned from there (Section 5.2). The encoders are the last
checkpoints of the long seed of studies/pretraining.py, which must have run on this machine.
"""

from collections.abc import Iterator
from pathlib import Path

import pretraining
from study import Run, Step, format_scores, read_log, train

CSV = 'studies/detection.csv'
SCORE = 'ap'  # COCO's, of boxes, from 0 to 1
COLUMNS = ('encoder', 'seed', 'training', 'ap', 'ap50')

ENCODERS = ('random', 'supervised', 'MoCo v2', 'masked FINOLA-B')
TRAININGS = {
    'frozen': 'configs/study/det_mf_dec211.py',
    'fine-tuned': 'configs/study/det_mf_dec211_finetune.py',
}
SEEDS = (0,)
PREPARE = [['tools/dataset_converters/make_shapes.py', '--out', 'data/shapes']]


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for seed in SEEDS:
        for encoder in reversed(ENCODERS):
            yield detector(encoder, seed)


def detector(encoder: str, seed: int) -> Run:
    """Train a decoder on the frozen encoder, then fine-tune both."""
    return Run(
        dict(encoder=encoder, seed=seed),
        lambda work_dir: [
            step('frozen', seed, work_dir, '--pretrained', str(pretrained(encoder, work_dir))),
            step('fine-tuned', seed, work_dir, load_from=work_dir / 'frozen'),
        ],
    )


def pretrained(encoder: str, work_dir: Path) -> Path:
    """Return the encoder's last checkpoint from the pre-training study.

    Raises:
        ValueError: the checkpoint does not exist.
    """
    run = pretraining.pretrain_and_eval(encoder, pretraining.LONG_SEED).name
    end = pretraining.eval_steps(encoder, pretraining.LONG_SEED)[-1]
    checkpoint = work_dir.parents[1] / 'pretraining' / run / 'pretraining' / f'iter_{end}.pth'
    if not checkpoint.is_file():
        raise ValueError(
            f'checkpoint {checkpoint} does not exist; create it with: python studies/study.py '
            f'pretraining --only {run} (first delete the rows of this run from {pretraining.CSV} '
            'if they come from another machine)'
        )
    return checkpoint


def step(training: str, seed: int, work_dir: Path, *start: str, **options) -> Step:
    options |= {'randomness.seed': seed}
    out = work_dir / training.replace('-', '_')
    return train(
        TRAININGS[training],
        options,
        out,
        *start,
        scores=lambda out: [dict(read_ap(out), training=training)],
    )


def read_ap(out: Path) -> dict[str, str]:
    """Read the last AP and AP50 from the log."""
    found = read_log(out, 'coco/bbox_mAP')
    return format_scores(ap=found['coco/bbox_mAP'], ap50=found['coco/bbox_mAP_50'])
