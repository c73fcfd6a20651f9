# Masked FINOLA-B with encoder W720 and an upsampler of half the width: ours, not in the paper.
#
# With this light encoder, the paper's upsampler takes most of a training step. It is discarded
# after pre-training. Bound of a step on a GPU: docs/results.md.
# Expected   unknown.
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_b_w720.py']

model = dict(upsampler=dict(embed_dim=256, num_heads=8))
