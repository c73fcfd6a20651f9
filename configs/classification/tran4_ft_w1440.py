# Fine-tuning with the tran-4 decoder, encoder Mobile-Former W1440, starting from tran1_w1440.py as
# in tran4_ft.py.
# Expected   82.2 top-1 after masked FINOLA-B (Table 7).
# Measured   not yet run on ImageNet.
_base_ = ['tran1_ft_w1440.py']

load_from = None

model = dict(
    head=dict(depth=4),
    init_cfg=dict(
        type='finola_mm.Pretrained',
        checkpoint='work_dirs/tran1_w1440',
        allow_missing=[f'head.blocks.{i}.*' for i in (1, 2, 3)],
    ),
)
