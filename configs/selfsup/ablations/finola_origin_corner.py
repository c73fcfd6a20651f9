# FINOLA with q in the upper left corner of the map, so that only A and B are used. For other
# corners, add --cfg-options model.neck.origin="(0,15)", "(15,0)" or "(15,15)".
# Expected   slightly below the 25.8 dB of the centre (Fig. 11; its figures are not
#            available).
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(origin=(0, 0)))
