# Fine-tuning with 1 % of ImageNet's labels (13 images per class), Mobile-Former W2880 and
# tran-1 decoder. The decoder is randomly initialized, since the tran-1 probe has seen all
# labels.
# Train      python tools/dataset_converters/draw_low_shot.py data/imagenet/train 1
#            tools/dist_train.sh configs/classification/low_shot/tran1_ft_1pct.py 8 --amp
#            8 GPUs x 32 images = batch size 256. The encoder is the last one in
#            work_dirs/masked_finola_b, or that of --pretrained CHECKPOINT.
# Expected   not given in the paper.
# Measured   not yet run on ImageNet.
_base_ = ['../tran1_ft.py']

missing_data_hint = (
    f'Draw the list: python tools/dataset_converters/draw_low_shot.py {_base_.data_root}/train 1'
)

load_from = None

model = dict(
    backbone=dict(
        init_cfg=dict(type='finola_mm.Pretrained', checkpoint='work_dirs/masked_finola_b')
    )
)

train_dataloader = dict(
    batch_size=32, dataset=dict(dataset=dict(ann_file='low_shot/train_1pct.txt'))
)

optim_wrapper = dict(optimizer=dict(lr=5e-4 * 256 / 256))

auto_scale_lr = dict(base_batch_size=256)
