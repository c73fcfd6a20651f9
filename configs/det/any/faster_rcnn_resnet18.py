# Faster R-CNN on COCO with an encoder pre-trained by configs/selfsup/any/resnet18_s32.py,
# fine-tuned. The paper has no such experiment.
#
# mmdet's Faster R-CNN with a feature pyramid. No stage is frozen and BatchNorm is trained as mmdet
# trains it from scratch, so that --pretrained none is a fair comparison. For another encoder,
# replace backbone and in_channels.
#
# Train      tools/dist_train.sh configs/det/any/faster_rcnn_resnet18.py 8 --pretrained WORK_DIR
#            Training time and memory: not yet measured.
# Expected   no published figure.
# Measured   not yet run.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../../_base_/coco_detection.py',
    '../../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

max_epochs = 12
train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=max_epochs, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
