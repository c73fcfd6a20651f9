# RTMDet with the small Mobile-Former encoder on photopaste at 192 x 192 pixels. On a CPU it learns
# faster than the paper's decoder, that of det_photopaste.py (docs/results.md). Neck and head are
# half as wide as RTMDet-s; strides are 8 and 16, where the encoder ends. The pre-trained encoder is
# trained with the rest.
#
# The data are made by tools/dataset_converters/make_photos.py (docs/photos.md).
#
# Train      tools/train.py configs/photos/rtmdet_photopaste.py --pretrained masked_finola_b_photos
# Measured   demo/README.md.
_base_ = ['det_photopaste.py']

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
    backbone=dict(type='finola_mm.MobileFormer', arch='small', out_indices=(2, 4)),
    neck=dict(
        type='CSPNeXtPAFPN',
        in_channels=[96, 256],
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

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.MinIoURandomCrop', min_ious=(0.5, 0.7, 0.9), min_crop_size=0.6),
    dict(type='mmdet.Resize', scale=(192, 192), keep_ratio=False),
    dict(type='mmdet.YOLOXHSVRandomAug'),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

optim_wrapper = dict(type='finola_mm.BFloat16OptimWrapper', optimizer=dict(lr=1e-3))

max_epochs = 16
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
visualization = dict(score_thr=0.35)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1), visualization=visualization)
work_dir = 'work_dirs/photos_rtmdet_photopaste'
