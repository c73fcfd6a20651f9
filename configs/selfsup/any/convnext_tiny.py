# Masked FINOLA-B with encoder ConvNeXt-T up to stride 16 (three of its four stages).
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(
    backbone=dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[3, 3, 9], channels=[96, 192, 384]),
        out_indices=(2,),
        gap_before_final_norm=False,
    )
)
