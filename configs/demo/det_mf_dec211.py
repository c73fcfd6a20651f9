# The detection demo: MF-Dec-211 on the small encoder, on generated scenes, on a CPU.
#
# configs/det/detr_mf_dec211.py at a smaller size: scenes resized to 128 x 128 pixels without
# keeping the aspect ratio, two to six objects of 12 classes in each, 25 queries of width 128. The
# encoder is frozen and must be pre-trained: the map of a random encoder at stride 16 differs by
# only 0.4 % between images.
#
# Train      tools/train.py configs/demo/det_mf_dec211.py \
#                --pretrained demo/masked_finola_b_shapes-fc5a4b1a.safetensors
# Measured   with studies/detection.py, seed 0, 200 held-out scenes: AP 0.072, AP50 0.169; after
#            fine-tuning (configs/study/det_mf_dec211_finetune.py) 0.171 and 0.347; 34 minutes in
#            total on one core under other load. The fine-tuned weights are in demo/. For other
#            encoders and settings, see docs/results.md.
_base_ = ['../det/detr_mf_dec211.py']

data_root = 'data/shapes/coco'
missing_data_hint = 'Generate it: python tools/dataset_converters/make_shapes.py --out data/shapes'
classes = (
    'ball',
    'cat',
    'donut',
    'fish',
    'heart',
    'house',
    'kite',
    'leaf',
    'moon',
    'mug',
    'star',
    'tree',
)

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=(128, 128), keep_ratio=False),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(128, 128), keep_ratio=False),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    dataset=dict(dataset=dict(**data, pipeline=train_pipeline)),
)
val_dataloader = dict(num_workers=1, pin_memory=False, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator

model = dict(
    backbone=dict(arch='small'),
    decoder=dict(in_channels=(96, 256), num_queries=25, dim=128, heads=4, hidden=256, dropout=0.0),
    bbox_head=dict(num_classes=12),
    test_cfg=dict(max_per_img=25),
)

# Training at batch size 8 and 1e-3 failed. bfloat16 would save a tenth of the step time.
optim_wrapper = dict(optimizer=dict(lr=7e-4))

max_epochs = 10
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
work_dir = 'work_dirs/demo_detection'
# After this short training, several queries detect the same object: draw only confident detections.
visualization = dict(score_thr=0.5)
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=1), visualization=visualization
)
auto_scale_lr = dict(base_batch_size=16)
