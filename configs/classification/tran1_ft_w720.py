# Fine-tuning with the tran-1 decoder, encoder Mobile-Former W720, starting from tran1_w720.py.
# Measured   not yet run on ImageNet.
_base_ = ['tran1_ft.py']

load_from = 'work_dirs/tran1_w720'

# No random erasing (Table 13).
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'mmpretrain.RandomErasing']
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    backbone=dict(arch='w720'),
    head=dict(in_channels=720, token_channels=192, embed_dim=192, num_heads=3, dropout=0.1),
)
