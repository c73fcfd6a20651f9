# Supervised training of Mobile-Former-151M with its classifier.
# Expected   75.2 top-1 (arXiv 2108.05895; its settings for this size are not published).
# Measured   not yet run on ImageNet.
_base_ = ['508m.py']

model = dict(
    backbone=dict(arch='151m'),
    head=dict(in_channels=768, token_channels=192, hidden_channels=1280),
)
