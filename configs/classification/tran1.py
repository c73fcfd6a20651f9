# tran-1 probing of a frozen pre-trained encoder, Mobile-Former W2880, on ImageNet-1K: one
# transformer block of width 768 and a linear classifier.
#
# Paper      arXiv 2305.16319, Appendix C, Table 13.
# Train      tools/dist_train.sh configs/classification/tran1.py 8 --pretrained CHECKPOINT --amp
#            8 GPUs x 512 images = batch size 4096. For a different total batch size, scale the
#            learning rate with --auto-scale-lr. Training time and memory: not yet measured.
# Test       tools/test.py configs/classification/tran1.py work_dirs/tran1
# Expected   Table 5 is not available.
# Measured   not yet run on ImageNet.
_base_ = ['../_base_/imagenet_classification_224_randaug.py', '../_base_/classification_runtime.py']

model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    data_preprocessor=dict(_base_.data_preprocessor, to_onehot=True),  # no wait in LabelSmoothLoss
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880', with_tokens=True, frozen_stages=5),
    head=dict(
        type='finola_mm.TransformerHead',
        num_classes=1000,
        in_channels=2880,
        token_channels=256,
        embed_dim=768,
        num_heads=12,
        depth=1,
        dropout=0.2,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

# Table 13, which omits the betas. No weight decay on norms, biases and tokens, as in pre-training.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='finola_mm.FusedAdamW', lr=5e-4 * 4096 / 256, weight_decay=0.1, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'tokens': dict(decay_mult=0.0)}
    ),
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
        T_max=190,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=200,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=4096)
