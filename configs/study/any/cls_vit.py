# Classification with the encoder of mae_vit.py, for studies/encoders.py. As for the other encoders,
# the feature of an image is the average of its map.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['cls_resnet18.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-tiny',
        img_size=96,
        patch_size=16,
        out_type='featmap',
    ),
    head=dict(in_channels=192),
)

work_dir = 'work_dirs/study/any_cls_vit'
