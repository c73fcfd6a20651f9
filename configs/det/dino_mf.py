# DINO on COCO with the Mobile-Former encoder W2880, fine-tuned; the paper has no such experiment.
#
# mmdet's DINO (4 scales, 12 epochs) on stage 3 (stride 8), the final map (stride 16) and two
# strided convolutions of this encoder. Data and runtime are mmdet's, with the exact resume and the
# safeguards of our other configs.
#
# Train      tools/dist_train.sh configs/det/dino_mf.py 8 --pretrained encoder.safetensors
#            Training time and memory: not yet measured. On a GPU, this requires mmcv's CUDA
#            operators (deformable attention and focal loss), which the set-up does not compile.
#            tools/check/env.py prints whether they are missing, and the commands that compile them
#            (FORCE_CUDA=1 ...; not yet tried).
# Expected   no published figure.
# Measured   not yet run.
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py']

custom_imports = dict(imports=['finola_mm.det'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='finola_mm.MobileFormer',
        arch='w2880',
        out_indices=(2, 4),
        norm_eval=True,
    ),
    neck=dict(in_channels=[192, 2880]),
)

data_root = '{{$FINOLA_COCO:data/coco}}'
missing_data_hint = (
    'Put COCO 2017 there (annotations/, train2017/ and val2017/), link the folder, or name its '
    'root by the environment variable FINOLA_COCO; without validation images add --no-validate.'
)
load = dict(type='finola_mm.LoadImageFromFile')
train_dataloader = dict(
    sampler=dict(type='finola_mm.SeededSampler'),
    batch_sampler=None,  # mmdet's cannot resume within an epoch: see _base_/coco_detection.py
    dataset=dict(
        _delete_=True,
        type='finola_mm.SeededDataset',
        dataset=dict(
            _base_.train_dataloader.dataset,
            data_root=data_root,
            pipeline=[load, *_base_.train_pipeline[1:]],
        ),
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=[load, *_base_.test_pipeline[1:]]))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='finola_mm.CocoMetric', ann_file=data_root + '/annotations/instances_val2017.json'
)
test_evaluator = val_evaluator

train_cfg = dict(type='finola_mm.ExactEpochLoop')
default_hooks = dict(checkpoint=dict(type='finola_mm.AtomicCheckpointHook', max_keep_ckpts=3))
custom_hooks = [
    dict(type='finola_mm.SeedIterationHook'),
    dict(type='finola_mm.FiniteLossHook'),
    dict(type='finola_mm.BadSamplesHook'),
    dict(type='finola_mm.InterruptionHook'),
]
randomness = dict(seed=0)
