# Supervised training of encoder and tran-1 decoder from scratch, Mobile-Former W2880, on
# ImageNet-1K: the baseline of Tables 3 and 4.
#
# The paper gives no settings. This config uses those of the tran-1 probe with mixup 0.2, and the
# batch size, learning rate and epochs of Mobile-Former's published command for its 508M model. It
# does not use that command's weight decay 0.2, dropout 0.3 and erasing 0.2.
#
# Paper      arXiv 2305.16319, Section 5.
# Train      tools/dist_train.sh configs/classification/supervised.py 8 --amp
#            8 GPUs x 128 images = batch size 1024. For a different total batch size, scale the
#            learning rate with --auto-scale-lr. Training time and memory: not yet measured.
# Test       tools/test.py configs/classification/supervised.py work_dirs/supervised
# Expected   Table 3 is not available.
# Measured   not yet run on ImageNet.
_base_ = ['tran1.py']

model = dict(
    backbone=dict(frozen_stages=-1),
    train_cfg=dict(augments=[dict(type='finola_mm.Mixup', alpha=0.2)]),
)

train_dataloader = dict(batch_size=128)

optim_wrapper = dict(optimizer=dict(lr=2.5e-4 * 1024 / 256))

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
        T_max=440,
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=450,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(max_epochs=450)

auto_scale_lr = dict(base_batch_size=1024)
