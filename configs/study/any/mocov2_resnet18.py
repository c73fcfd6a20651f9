# MoCo v2 with the encoder of resnet18.py, for studies/encoders.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['../mocov2.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    )
)

work_dir = 'work_dirs/study/any_mocov2_resnet18'
