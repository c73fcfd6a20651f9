# Fine-tuning of the demo's encoder and tran-1 decoder on generated shapes, starting from
# cls_tran1.py.
# Train      tools/train.py configs/demo/cls_tran1_ft.py
# Measured   not yet run in full.
_base_ = ['cls_tran1.py']

load_from = 'work_dirs/demo_tran1'

model = dict(
    backbone=dict(frozen_stages=-1),
    train_cfg=dict(augments=[dict(type='finola_mm.Mixup', alpha=0.2)]),
)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)

work_dir = 'work_dirs/demo_tran1_ft'
