# Fine-tuning of the detector of detr_mf_dec522.py, encoder included.
#
# Paper      arXiv 2305.16319, Section 5.2 and Appendix: 200 more epochs.
# Train      tools/dist_train.sh configs/det/detr_mf_dec522_finetune.py 8
#            Training starts from the last checkpoint of the frozen run in its work directory, or
#            from --cfg-options load_from=CHECKPOINT. Training time and memory: not yet measured.
# Expected   The best AP on val2017 in the paper is 49.0 (Section 5.2, Table 8), with an encoder
#            that was first fine-tuned on ImageNet. For an encoder without this step, as here, the
#            paper only states "similar" to supervised pre-training, which is 0.9 to 2.0 AP lower
#            (Appendix, Table 19). The rows of both tables are not available.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

load_from = 'work_dirs/detr_mf_dec522/epoch_500.pth'

# BatchNorm statistics stay fixed, as in DETR: two images per GPU are too few to update them.
model = dict(backbone=dict(frozen_stages=-1, norm_eval=True))

optim_wrapper = dict(optimizer=dict(lr=1e-5))

param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=200, milestones=[150], gamma=0.1),
]
train_cfg = dict(max_epochs=200)
