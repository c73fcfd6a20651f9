# Masked FINOLA-B (W2880) with FSDP: each process keeps its share of parameters, gradients and
# moments. Losses and weights are those of masked_finola_b.py, and the same tools read checkpoints
# (docs/scale.md: why DDP is the default, and what was tried).
#
# Train      tools/dist_train.sh configs/selfsup/masked_finola_b_fsdp.py 8 --amp
# Measured   the same model at a smaller size on two CPU processes (tests/tools/test_sharded.py);
#            not yet run on GPUs.
_base_ = ['masked_finola_b.py']

runner_type = 'FlexibleRunner'  # MMEngine's, experimental; only it has strategies

# The model is one unit. Whole checkpoints, written by process 0; put together on its device, since
# torch 2.11's way over the CPU is a segmentation fault, or wrong moments, where that is the CPU.
strategy = dict(
    type='finola_mm.ResumableFSDPStrategy',
    model_wrapper=dict(type='MMFullyShardedDataParallel', use_orig_params=True),
    state_dict_cfg=dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', rank0_only=True, offload_to_cpu=False),
        optim_state_dict_config=dict(
            type='FullOptimStateDictConfig', rank0_only=True, offload_to_cpu=False
        ),
    ),
)

# Without kNN, which would see one process's share of the encoder (as EMAHook would).
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='finola_mm.AtomicCheckpointHook', interval=20, max_keep_ckpts=3),
    visualization=dict(type='finola_mm.ReconstructionHook'),
)
