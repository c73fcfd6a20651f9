# DETR with the Mobile-Former decoder MF-Dec-522 on COCO; encoder Mobile-Former W2880, frozen.
#
# For other data, set metainfo=dict(classes=(...)) in every data set, and bbox_head.num_classes.
#
# Paper      arXiv 2305.16319, Section 5.1 and Appendix (decoder probing).
# Sizes      encoder 25.0 M, decoder and head 19.4 M parameters; 77.5 + 34.6 G multiply-adds at 800
#            x 1333.
# Train      tools/dist_train.sh configs/det/detr_mf_dec522.py 8 --pretrained ENCODER
#            8 GPUs x 2 images. ENCODER is the work directory or a checkpoint of masked_finola_b.py,
#            or the output of extract_backbone.py. For a different total batch size, scale the
#            learning rate with --auto-scale-lr. Training time and memory: not yet measured.
# Test       tools/test.py configs/det/detr_mf_dec522.py CHECKPOINT
# Expected   AP on val2017: 43.3 with masked FINOLA, 45.5 after fine-tuning on ImageNet, 40.5
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['../_base_/coco_detection.py', '../_base_/detection_runtime.py']

model = dict(
    _scope_='mmdet',
    type='finola_mm.MobileFormerDETR',
    data_preprocessor=dict(
        type='finola_mm.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880', out_indices=(2, 4), frozen_stages=5),
    decoder=dict(arch='522', in_channels=(192, 2880), num_queries=100, dropout=0.1),
    bbox_head=dict(type='finola_mm.MobileFormerDETRHead', num_classes=80, bg_cls_weight=0.1),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=1.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100),
)

# AdamW, learning rate, weight decay and dropout are from the paper, gradient clipping is from DETR.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
)

param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=500, milestones=[400], gamma=0.1),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=500, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=10))

# Without this check, a head for 80 classes on data with 12 classes would fail only in evaluation.
custom_hooks = [*_base_.custom_hooks, dict(type='mmdet.NumClassCheckHook')]

auto_scale_lr = dict(base_batch_size=16)
