# FINOLA normalised as BatchNorm does: by the batch in training, by moving averages after it. All
# else as in finola.py.
# Expected   the paper's PSNR is 25.1 dB in training and 16.3 dB in inference (Section 4).
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='norm_moving'))
