# UPerNet on ADE20K with an encoder pre-trained by configs/selfsup/any/resnet18_s32.py, fine-tuned,
# by mmseg (`pip install 'finola_mm[seg]'`). The paper has no such experiment.
#
# mmseg's UPerNet and its schedule of 80,000 steps, with AdamW. For another encoder, replace
# backbone and in_channels. mmseg's data pipeline is not a function of the seed and the step: a
# resumed run differs from an uninterrupted one.
#
# Train      tools/dist_train.sh configs/seg/upernet_resnet18.py 4 --pretrained WORK_DIR
#            4 GPUs x 4 images. Training time and memory: not yet measured.
# Expected   no published figure.
# Measured   not yet run.
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py',
]

custom_imports = dict(
    imports=['mmpretrain.models', 'mmseg.models', 'finola_mm.engine'], allow_failed_imports=False
)

norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=18,
        out_indices=(0, 1, 2, 3),
        norm_eval=False,
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512], num_classes=150, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=256, num_classes=150, norm_cfg=norm_cfg),
)
sync_bn = 'torch'  # BatchNorm over all ranks, as in mmseg's configs

optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05))
default_hooks = dict(
    checkpoint=dict(type='finola_mm.AtomicCheckpointHook', max_keep_ckpts=3),
)
custom_hooks = [dict(type='finola_mm.FiniteLossHook'), dict(type='finola_mm.InterruptionHook')]
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=16)
