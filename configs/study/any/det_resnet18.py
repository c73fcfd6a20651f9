# RTMDet with the encoder of resnet18.py on photopaste at 192 x 192 pixels, for
# studies/encoder_detection.py. Neck and head are half as wide as RTMDet-s; strides are 8 and 16,
# since the encoder ends there. All parameters are trained, so that random weights are a fair
# comparison.
# Train      make study ARGS=encoder_detection
# Measured   docs/results.md.
_base_ = ['../../photos/det_photopaste.py']

norm_cfg = dict(type='BN')
act_cfg = dict(type='SiLU', inplace=True)
width = 64
model = dict(
    _delete_=True,
    _scope_='mmdet',
    type='RTMDet',
    data_preprocessor=dict(
        type='finola_mm.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmdet.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        norm_eval=False,
    ),
    neck=dict(
        type='CSPNeXtPAFPN',
        in_channels=[128, 256],
        out_channels=width,
        num_csp_blocks=1,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type='RTMDetSepBNHead',
        num_classes=12,
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=False,
        share_conv=True,
        pred_kernel_size=1,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=100,
    ),
)

loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader

optim_wrapper = dict(optimizer=dict(lr=1e-3))
work_dir = 'work_dirs/study/any_det_resnet18'
