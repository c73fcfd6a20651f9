# DETR with the Mobile-Former decoder MF-Dec-211; all else as in detr_mf_dec522.py.
# Sizes      the paper's decoder and head: 9.2 M, 15.7 G multiply-adds at 800 x 1333.
# Expected   the paper's AP on val2017: 36.7 with its masked FINOLA, 41.0 fine-tuned on ImageNet
#            before, 34.1 supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(decoder=dict(arch='211'))
