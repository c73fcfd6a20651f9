# Masked FINOLA-B with encoder Swin-T up to stride 32, all four stages. Its map is smaller than a
# window, so it is padded.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(
    backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch='tiny',
        img_size=128,
        out_indices=(3,),
        pad_small_map=True,
    )
)
