# Linear probing of a frozen pre-trained encoder, Mobile-Former W2880, on ImageNet-1K.
#
# Paper      arXiv 2305.16319, Appendix C, Table 13.
# Train      tools/dist_train.sh configs/classification/lin.py 8 --pretrained CHECKPOINT --amp
#            8 GPUs x 512 images = batch size 4096. For a different total batch size, scale the
#            learning rate with --auto-scale-lr. Training time and memory: not yet measured.
# Test       tools/test.py configs/classification/lin.py work_dirs/lin
# Expected   66.4 top-1 after masked FINOLA-B (Table 6).
# Measured   not yet run on ImageNet.
_base_ = ['../_base_/imagenet_classification_224.py', '../_base_/classification_runtime.py']

model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880', with_tokens=True, frozen_stages=5),
    head=dict(
        type='finola_mm.LinearProbeHead', num_classes=1000, in_channels=2880, token_channels=256
    ),
)

# Table 13, which omits the momentum.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1 * 4096 / 256, momentum=0.9, weight_decay=0),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=80,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=90,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=90, val_interval=10)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=4096)
