# Masked FINOLA-B with encoder Swin-T up to stride 16 (three of its four stages).
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(
    backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=96, depths=[2, 2, 6], num_heads=[3, 6, 12]),
        img_size=128,
        out_indices=(2,),
        pad_small_map=True,
    )
)
