# Fine-tuning with 10 % of ImageNet's labels, 128 images of each class, Mobile-Former W2880 and
# tran-1 decoder. The decoder starts at random: the tran-1 probe has seen all labels.
#
# Train      python tools/dataset_converters/draw_low_shot.py data/imagenet/train 10
#            tools/dist_train.sh configs/classification/low_shot/tran1_ft_10pct.py 8 --amp:
#            8 GPUs x 128 images = batch 1024. It begins with the last encoder in
#            work_dirs/masked_finola_b, or with --pretrained CHECKPOINT.
# Measured   not yet run on ImageNet. The paper has no such figure; all else is tran1_ft.py's.
_base_ = ['../tran1_ft.py']

missing_data_hint = (
    f'Draw the list: python tools/dataset_converters/draw_low_shot.py {_base_.data_root}/train 10'
)

load_from = None

model = dict(
    backbone=dict(
        init_cfg=dict(type='finola_mm.Pretrained', checkpoint='work_dirs/masked_finola_b')
    )
)

train_dataloader = dict(dataset=dict(dataset=dict(ann_file='low_shot/train_10pct.txt')))
