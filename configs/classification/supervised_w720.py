# Supervised training from scratch, encoder Mobile-Former W720 with its tran-1 decoder.
# Measured   not yet run on ImageNet.
_base_ = ['supervised.py']

# No random erasing (Table 13).
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'mmpretrain.RandomErasing']
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    backbone=dict(arch='w720'),
    head=dict(in_channels=720, token_channels=192, embed_dim=192, num_heads=3, dropout=0.1),
)
