# DETR with MF-Dec-522 on Mobile-Former W720, frozen; all else as in detr_mf_dec522.py.
# Sizes      the paper's decoder and head: 18.2 M, 31.1 G multiply-adds at 800 x 1333.
# Expected   the paper's AP on val2017: 40.0 with its masked FINOLA, 41.6 fine-tuned on ImageNet
#            before, 35.2 supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(backbone=dict(arch='w720'), decoder=dict(in_channels=(48, 720)))
