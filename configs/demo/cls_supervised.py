# Supervised training from scratch on generated shapes: the baseline with labels.
# Train      tools/train.py configs/demo/cls_supervised.py
# Measured   not yet run in full.
_base_ = ['cls_tran1.py']

model = dict(
    backbone=dict(frozen_stages=-1),
    train_cfg=dict(augments=[dict(type='finola_mm.Mixup', alpha=0.2)]),
)

work_dir = 'work_dirs/demo_supervised'
