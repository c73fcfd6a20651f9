# MoCo v2 at 96 x 96.
# Train      make study
# Measured   docs/results.md.
_base_ = ['../demo/mocov2.py']

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.MultiView',
        num_views=2,
        transforms=[
            [
                dict(type='mmpretrain.RandomResizedCrop', scale=96, crop_ratio_range=(0.2, 1.0)),
                *_base_.view_pipeline[1:],
            ]
        ],
    ),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(dataset=dict(pipeline=train_pipeline))
)

# The data set has 4000 images: with a longer queue, most images would be their own negatives.
model = dict(queue_len=1024)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        T_max=_base_.max_iters - 30,
        by_epoch=False,
        begin=30,
        end=_base_.max_iters,
    ),
]
work_dir = 'work_dirs/study/mocov2'
