# Fine-tuning of encoder and tran-4 decoder (four blocks), Mobile-Former W2880, on ImageNet-1K.
#
# Encoder, projection, first block, norm and classifier are loaded from the tran-1 probe. Blocks 2
# to 4 are randomly initialized; only their weights may be missing in its checkpoint. The default is
# the last checkpoint in work_dirs/tran1; to use another one, add --cfg-options
# model.init_cfg.checkpoint=CHECKPOINT.
#
# Expected   83.9 top-1 after masked FINOLA-B (Table 7).
# Measured   not yet run on ImageNet.
_base_ = ['tran1_ft.py']

load_from = None

model = dict(
    head=dict(depth=4),
    init_cfg=dict(
        type='finola_mm.Pretrained',
        checkpoint='work_dirs/tran1',
        allow_missing=[f'head.blocks.{i}.*' for i in (1, 2, 3)],
    ),
)
