# FINOLA with a two-layer network in place of each matrix, with the same number of parameters.
# Expected   unknown.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='nonlinear'))
