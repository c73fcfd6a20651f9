# Baseline: q repeated after one norm+linear step with each of four matrices: as many parameters as
# FINOLA, but no map.
# Expected   unknown.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='repeat_matched'))
