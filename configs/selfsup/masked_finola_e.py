# Masked FINOLA-E, encoder Mobile-Former W2880: the visible block is pooled into one latent vector.
# Paper      arXiv 2305.16319, Section 3, Fig. 4 left, Table 10.
# Expected   the paper gives no masked PSNR; block-wise FINOLA has the higher accuracy (Fig. 9).
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_b.py']

model = dict(
    neck=dict(_delete_=True, type='finola_mm.FINOLANeck', in_channels=2880, channels=2880, size=16),
    upsampler=dict(_delete_=True, type='finola_mm.PatchUpsampler', in_channels=2880),
)

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'queries': dict(decay_mult=0.0)}))
