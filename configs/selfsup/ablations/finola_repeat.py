# q repeated over the map instead of FINOLA; all else as in finola.py.
# Expected   no figure is known here.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='repeat'))
