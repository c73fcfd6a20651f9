# tran-1 probing of the demo's encoder on generated shapes: a transformer block of width 64, without
# RandAugment (the run is short).
# Train      tools/train.py configs/demo/cls_tran1.py --pretrained work_dirs/demo
# Measured   not yet run in full.
_base_ = ['cls_lin.py']

model = dict(
    head=dict(
        type='finola_mm.TransformerHead',
        embed_dim=64,
        num_heads=4,
        dropout=0.1,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )
)

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='finola_mm.FusedAdamW', lr=2e-3, weight_decay=0.1, fused=True
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'tokens': dict(decay_mult=0.0)}
    ),
)

work_dir = 'work_dirs/demo_tran1'
