# tran-1 probing with encoder Mobile-Former W1440: a transformer block of width 384.
# Measured   not yet run on ImageNet.
_base_ = ['tran1.py']

# No random erasing (Table 13).
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'mmpretrain.RandomErasing']
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    backbone=dict(arch='w1440'),
    head=dict(in_channels=1440, token_channels=256, embed_dim=384, num_heads=6, dropout=0.2),
)
