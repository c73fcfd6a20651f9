# Baseline: q repeated after one norm+linear step by each of four matrices: FINOLA's parameters
# without its map.
# Expected   unknown.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='repeat_matched'))
