# q repeated after one norm+linear step by each of four matrices: FINOLA's parameters without its
# map. All else as in finola.py.
# Expected   no figure is known here.
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='repeat_matched'))
