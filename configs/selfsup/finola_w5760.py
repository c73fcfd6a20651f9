# FINOLA, encoder Mobile-Former W5760, 2 times as wide up to its output of 2880 channels; all
# else as in finola.py.
# Expected   the paper's PSNR is 26.1 dB (Table 2b).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(backbone=dict(arch='w5760'))
