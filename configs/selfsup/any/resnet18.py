# Masked FINOLA-B with encoder ResNet-18 up to stride 16 (three of its four stages).
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    )
)
