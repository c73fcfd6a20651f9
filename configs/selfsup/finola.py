# FINOLA, encoder Mobile-Former W2880, C = 3072: reconstruct each image from a single latent vector,
# on ImageNet-1K.
#
# Paper      arXiv 2305.16319, Section 2, Tables 2, 9, 10 and 12.
# Train      tools/dist_train.sh configs/selfsup/finola.py 8 --amp
#            8 GPUs x 16 images = batch size 128, as in the paper. For a different total batch size,
#            scale the learning rate with --auto-scale-lr. Training time and memory: not yet
#            measured.
# Test       tools/test.py configs/selfsup/finola.py CHECKPOINT    # PSNR on val
# Expected   PSNR 25.8 dB (Table 2).
# Measured   not yet run on ImageNet.
_base_ = ['../_base_/imagenet_reconstruction_256.py', '../_base_/selfsup_runtime.py']

model = dict(
    type='finola_mm.FINOLA',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880'),
    neck=dict(type='finola_mm.FINOLANeck', in_channels=2880, channels=3072, size=16),
    upsampler=dict(type='finola_mm.ConvUpsampler', in_channels=3072, scale=16),
    head=dict(type='finola_mm.ReconstructionHead'),
)

train_dataloader = dict(batch_size=16)
val_dataloader = dict(batch_size=16)
test_dataloader = val_dataloader

# Table 12; betas and minimum learning rate, which it omits, are those of MAE. No weight decay on
# norms, biases, tokens and the queries of the pooling, as in MAE.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='finola_mm.FusedAdamW',
        lr=1.5e-4 * 128 / 256,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        fused=True,
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'tokens': dict(decay_mult=0.0), 'queries': dict(decay_mult=0.0)},
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
        T_max=90,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=100, val_interval=10)
default_hooks = dict(knn=dict(interval=10))
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=128)
