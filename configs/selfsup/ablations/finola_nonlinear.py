# FINOLA with a two-layer network, as large as the matrix, in the place of each; all else as in
# finola.py.
# Expected   no figure is known here.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='nonlinear'))
