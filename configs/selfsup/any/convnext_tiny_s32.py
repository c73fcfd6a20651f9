# Masked FINOLA-B with encoder ConvNeXt-T up to stride 32, all four stages.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(
    backbone=dict(
        type='mmpretrain.ConvNeXt', arch='tiny', out_indices=(3,), gap_before_final_norm=False
    )
)
