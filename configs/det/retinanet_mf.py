# RetinaNet on COCO with the Mobile-Former encoder W2880, fine-tuned; the paper has no such
# experiment.
#
# The feature pyramid starts from stage 3 (stride 8) and the final map (stride 16), which is the
# last map that pre-training trains. The three coarser levels are strided convolutions as in mmdet's
# RetinaNet. Schedule and optimizer are those of mmdet's RetinaNet with a PVT encoder.
#
# Train      tools/dist_train.sh configs/det/retinanet_mf.py 8 --pretrained encoder.safetensors
#            Training time and memory: not yet measured. On a GPU, this requires mmcv's CUDA
#            operators (focal loss and NMS), which the set-up does not compile.
#            tools/check/env.py prints whether they are missing, and the commands that compile them
#            (FORCE_CUDA=1 ...; not yet tried).
# Expected   no published figure.
# Measured   not yet run.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/coco_detection.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='finola_mm.MobileFormer',
        arch='w2880',
        out_indices=(2, 4),
        norm_eval=True,
    ),
    neck=dict(in_channels=[192, 2880], start_level=0),
)

max_epochs = 12
train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=max_epochs, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
