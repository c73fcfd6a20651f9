# Masked FINOLA-B with encoder ViT-S, patches of 32 x 32.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=128,
        patch_size=32,
        out_type='featmap',
    )
)
