"""Newer functions of torch on the oldest supported one, 2.1.

Each comment names the oldest torch that has the function. The shim may go when the minimum in
``finola_mm/environment.py`` reaches it.
"""

import inspect
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch._compile import _disable_dynamo

try:  # torch 2.3. torch.compile replaces both by True.
    from torch.compiler import is_compiling as is_compiling
except ImportError:
    from torch._utils import is_compiling as is_compiling

# torch 2.6 is the oldest tried. The compiler of 2.1 changes gradients of our functions; before 2.5,
# torch.onnx.export does not use torch.export.
COMPILES = EXPORTS_ONNX = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)

# torch.compiler.disable without an import of the compiler, which takes a second; not public.
not_compiled = _disable_dynamo

# torch 2.2 has names for the errors of ranks that do not connect.
RENDEZVOUS_ERRORS = tuple(
    getattr(torch.distributed, name, RuntimeError)
    for name in ('DistNetworkError', 'DistStoreError')
)

# torch 2.3: init_process_group connects a rank to its GPU at once.
BINDS_DEVICE = 'device_id' in inspect.signature(torch.distributed.init_process_group).parameters


def is_autocast_enabled(device_type: str) -> bool:
    """Whether autocast is enabled on a type of device, 'cpu' or 'cuda'."""
    if hasattr(torch, 'get_autocast_dtype'):  # torch 2.4
        return torch.is_autocast_enabled(device_type)
    return torch.is_autocast_cpu_enabled() if device_type == 'cpu' else torch.is_autocast_enabled()


def get_autocast_dtype(device_type: str) -> torch.dtype:
    """The dtype of autocast on a type of device, 'cpu' or 'cuda'."""
    if hasattr(torch, 'get_autocast_dtype'):  # torch 2.4
        return torch.get_autocast_dtype(device_type)
    cpu = device_type == 'cpu'
    return torch.get_autocast_cpu_dtype() if cpu else torch.get_autocast_gpu_dtype()


def math_attention() -> AbstractContextManager:
    """Compute attention as two products, which torch's FLOP counter can count."""
    try:  # torch 2.3: torch.nn.attention
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)
    return sdpa_kernel(SDPBackend.MATH)


def mark_step_begin() -> None:
    """Tell CUDA graphs of compiled parts that a step begins."""
    if hasattr(torch.compiler, 'cudagraph_mark_step_begin'):  # torch 2.2
        torch.compiler.cudagraph_mark_step_begin()
    else:
        from torch._inductor import cudagraph_mark_step_begin

        cudagraph_mark_step_begin()


def fuses_adamw(device_type: str) -> bool:
    """Whether torch has a fused AdamW for a type of device."""
    # torch 2.4: on CPUs
    return device_type in torch.utils._foreach_utils._get_fused_kernels_supported_devices()


def cpu_has_avx512_bf16() -> bool:
    """Whether this x86 CPU has bfloat16 instructions."""
    if hasattr(torch.cpu, '_is_avx512_bf16_supported'):  # torch 2.6
        return torch.cpu._is_avx512_bf16_supported()
    flags = Path('/proc/cpuinfo')  # of Linux
    return flags.exists() and 'avx512_bf16' in flags.read_text()


def gpu_computes_bfloat16() -> bool:
    """Whether the current GPU multiplies bfloat16 in hardware."""
    try:  # torch 2.5: the argument; before, some versions count an emulation
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:
        return torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)
