# Supervised training of Mobile-Former-52M with its classifier.
# Expected   68.7 top-1 (arXiv 2108.05895; its settings for this size are not published).
# Measured   not yet run on ImageNet.
_base_ = ['508m.py']

model = dict(
    backbone=dict(arch='52m'),
    head=dict(in_channels=576, token_channels=128, hidden_channels=1024),
)
