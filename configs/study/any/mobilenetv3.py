# Masked FINOLA-B with encoder MobileNetV3-Large up to stride 16, for studies/encoders.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['resnet18.py']

model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.MobileNetV3', arch='large', out_indices=(12,))
)

# On machine C of docs/results.md a step takes 0.42 s, with bfloat16 0.57 s.
optim_wrapper = dict(type='OptimWrapper')

work_dir = 'work_dirs/study/any_mobilenetv3'
