# The detector of detr_mf_dec522.py, encoder and all, fine-tuned from the end of that run.
#
# Paper      arXiv 2305.16319, Section 5.2 and Appendix: 200 more epochs.
# Train      tools/dist_train.sh configs/det/detr_mf_dec522_finetune.py 8. The frozen run's last
#            checkpoint is expected in its work directory; elsewhere: --cfg-options
#            load_from=CHECKPOINT.
# Expected   the paper's best AP on val2017 is 49.0 (Section 5.2, Table 8), of an encoder that was
#            fine-tuned on ImageNet before. Without that, as here, it only says "similar" to
#            supervised pre-training, which is 0.9 to 2.0 AP lower (Appendix, Table 19; the rows of
#            both tables are not at hand).
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

load_from = 'work_dirs/detr_mf_dec522/epoch_500.pth'

# BatchNorm keeps its statistics, as DETR's does: two images on a GPU are few for others.
model = dict(backbone=dict(frozen_stages=-1, norm_eval=True))

optim_wrapper = dict(optimizer=dict(lr=1e-5))

param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=200, milestones=[150], gamma=0.1),
]
train_cfg = dict(max_epochs=200)
