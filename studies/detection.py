"""What does each pre-training leave in the same small encoder for detection?

MF-Dec-211, small, on drawn scenes: a decoder is trained on the frozen encoder, as the paper probes
(arXiv 2305.16319, Section 5.1), then all of it is fine-tuned from there (Section 5.2). The encoders
are the last states of the long seed of studies/pretraining.py, which has to have run on this
machine.
"""

from collections.abc import Iterator
from pathlib import Path

import pretraining
from study import Run, Step, numbered, read_log, train

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
    """Every run, in the order in which they are wanted."""
    for seed in SEEDS:
        for encoder in reversed(ENCODERS):
            yield detector(encoder, seed)


def detector(encoder: str, seed: int) -> Run:
    """A decoder on the frozen encoder, then both."""
    return Run(
        dict(encoder=encoder, seed=seed),
        lambda work_dir: [
            step('frozen', seed, work_dir, '--pretrained', str(pretrained(encoder, work_dir))),
            step('fine-tuned', seed, work_dir, load_from=work_dir / 'frozen'),
        ],
    )


def pretrained(encoder: str, work_dir: Path) -> Path:
    """The checkpoint that the study of pre-training has left, beside this run's work directory.

    Raises:
        ValueError: it has not.
    """
    run = pretraining.judged(encoder, pretraining.LONG_SEED).name
    end = pretraining.points(encoder, pretraining.LONG_SEED)[-1]
    checkpoint = work_dir.parents[1] / 'pretraining' / run / 'pretraining' / f'iter_{end}.pth'
    if not checkpoint.is_file():
        raise ValueError(
            f'the encoder of the run {run} is lacking, {checkpoint}: python studies/study.py '
            f'pretraining --only {run} makes it (if its rows are in {pretraining.CSV} already, '
            'from another machine, delete them first)'
        )
    return checkpoint


def step(training: str, seed: int, work_dir: Path, *start: str, **options) -> Step:
    def scores(out: Path) -> list[dict]:
        found = read_log(out, 'coco/bbox_mAP')
        return [
            dict(
                numbered(ap=found['coco/bbox_mAP'], ap50=found['coco/bbox_mAP_50']),
                training=training,
            )
        ]

    options |= {'randomness.seed': seed}
    out = work_dir / training.replace('-', '_')
    return train(TRAININGS[training], options, out, *start, scores=scores)
