# Fine-tuning with the tran-1 decoder, encoder Mobile-Former W1440, starting from tran1_w1440.py.
# Measured   not yet run on ImageNet.
_base_ = ['tran1_ft.py']

load_from = 'work_dirs/tran1_w1440'

# No random erasing (Table 13).
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'mmpretrain.RandomErasing']
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    backbone=dict(arch='w1440'),
    head=dict(in_channels=1440, token_channels=256, embed_dim=384, num_heads=6, dropout=0.2),
)
