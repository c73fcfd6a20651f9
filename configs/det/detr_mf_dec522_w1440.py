# DETR with MF-Dec-522 on Mobile-Former W1440, frozen; all else as in detr_mf_dec522.py.
# Sizes      the paper's decoder and head: 18.6 M, 32.3 G multiply-adds at 800 x 1333.
# Expected   the paper's AP on val2017: 42.6 with its masked FINOLA, 44.0 fine-tuned on ImageNet
#            before, 38.3 supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(backbone=dict(arch='w1440'), decoder=dict(in_channels=(96, 1440)))
