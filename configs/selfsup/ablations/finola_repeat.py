# Baseline: q repeated over the map instead of FINOLA.
# Expected   unknown.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='repeat'))
