# Masked FINOLA-B, encoder Mobile-Former W2880: self-supervised pre-training on ImageNet-1K.
#
# Paper      arXiv 2305.16319, Section 3, Tables 9, 10 and 12.
# Train      tools/dist_train.sh configs/selfsup/masked_finola_b.py 8 --amp
#            8 GPUs x 128 images = batch size 1024, as in the paper. For a different total batch
#            size, scale the learning rate with --auto-scale-lr. Training time and memory: not yet
#            measured.
# Test       tools/test.py configs/selfsup/masked_finola_b.py CHECKPOINT    # masked PSNR on val
# Expected   linear probing of this encoder 66.4 top-1; the paper gives no masked PSNR.
# Measured   not yet run on ImageNet.
_base_ = ['../_base_/imagenet_selfsup_256.py', '../_base_/selfsup_runtime.py']

model = dict(
    type='finola_mm.MaskedFINOLA',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880'),
    neck=dict(type='finola_mm.BlockFINOLANeck', channels=2880),
    upsampler=dict(type='finola_mm.TransformerUpsampler', in_channels=2880),
    head=dict(type='finola_mm.MaskedReconstructionHead', patch_size=16),
)

# Table 12; betas and minimum learning rate, which it omits, are those of MAE. No weight decay on
# norms, biases and tokens, as in MAE.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='finola_mm.FusedAdamW',
        lr=1.5e-4 * 1024 / 256,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        fused=True,
    ),
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
        T_max=1590,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=1600,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=1600, val_interval=100)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=1024)
