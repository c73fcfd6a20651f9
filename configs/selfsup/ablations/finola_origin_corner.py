# FINOLA with q in the map's upper left corner, from where A and B alone step; all else as in
# finola.py. Each other corner: --cfg-options model.neck.origin="(0,15)", or (15,0), or (15,15).
# Expected   the paper: slightly below the centre's 25.8 dB (Fig. 11, whose figures are lost).
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(origin=(0, 0)))
