# Masked FINOLA-E at 96 x 96: the visible block is pooled into one latent vector.
# Train      make study
# Measured   docs/results.md.
_base_ = ['masked_finola_b.py']

model = dict(
    neck=dict(_delete_=True, type='finola_mm.FINOLANeck', in_channels=256, channels=256, size=6),
    upsampler=dict(_delete_=True, type='finola_mm.PatchUpsampler', in_channels=256),
)

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'queries': dict(decay_mult=0.0)}))
work_dir = 'work_dirs/study/masked_finola_e'
