# Supervised training of Mobile-Former-214M with its classifier.
# Expected   76.7 top-1 (arXiv 2108.05895; its settings for this size are not published).
# Measured   not yet run on ImageNet.
_base_ = ['508m.py']

model = dict(
    backbone=dict(arch='214m'),
    head=dict(in_channels=960, token_channels=192, hidden_channels=1600),
)
