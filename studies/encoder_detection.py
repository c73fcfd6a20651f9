"""Fine-tune an mmdet detector, RTMDet, on a ResNet-18 pre-trained by masked FINOLA-B.

The scenes are photopaste: photographed cut-outs of 12 classes on photographs (docs/photos.md). The
encoder is the published one of studies/encoders.py, pre-trained on objects12 without labels; the
same detector is also trained from random weights. All parameters are trained.
"""

from collections.abc import Iterator

from detection import read_ap
from study import Run, train

CONFIG = 'configs/study/any/det_resnet18.py'
CSV = 'studies/encoder_detection.csv'
SCORE = 'ap'  # COCO's, of boxes, from 0 to 1
COLUMNS = ('encoder', 'seed', 'ap', 'ap50')

# Encoder -> the value of --pretrained
ENCODERS = {'random': 'none', 'masked FINOLA-B': 'resnet18_objects12'}
SEEDS = (0, 1, 2, 3)  # two runs of one kind differ by more than 3 points of AP
PREPARE = [['tools/dataset_converters/make_photos.py', '--out', 'data/photos']]


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for seed in SEEDS:
        for encoder in reversed(ENCODERS):
            yield detector(encoder, seed)


def detector(encoder: str, seed: int) -> Run:
    """Train all parameters of the detector."""
    return Run(
        dict(encoder=encoder, seed=seed),
        lambda work_dir: [
            train(
                CONFIG,
                {'randomness.seed': seed},
                work_dir / 'training',
                '--amp',
                '--pretrained',
                ENCODERS[encoder],
                scores=lambda out: [read_ap(out)],
            )
        ],
    )
