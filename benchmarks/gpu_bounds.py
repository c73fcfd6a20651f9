"""Compute lower bounds of the time of a training step on a GPU, by part, without a GPU.

    python benchmarks/gpu_bounds.py [KIND ...] [--batch 128] [--compile]

A step in bfloat16 runs on the null GPU (tests/null_gpu), which computes nothing. Each operator is
assigned the FLOP of its products and the bytes that it must read and write. Its bound is the larger
of FLOP / 400 TFLOP/s and bytes / 4 TB/s, some 40 and 80 % of the peaks of an H200. The bound of a
step is the sum over its operators. A real step takes longer: caches, launches, unsuitable shapes
and waiting for the host are not included. The CPU time of the host has a column of its own; the
driver's share of it, about 2 us per launch, is missing.

With --compile, each model is measured a second time, compiled by `CompileHook` as in tools/train.py
--compile; MAE's encoder and decoder are compiled alike. This takes minutes per model. A CUDA graph
counts as one launch. Bytes of the compiled parts are those that Inductor computes for its kernels;
copies of inputs into CUDA graphs are not included.

FINOLA is compared with mmpretrain's MAE at the same batch size and image size: ViT-B for W2880,
ViT-S for W1440 and ViT-Ti for W720 (benchmarks/pretrain_step.py). FLOP are those of matrix
products, attention and dense convolutions. Grouped convolutions, which are limited by memory, count
with their bytes only.
"""

import argparse
import contextlib
import logging
import sys
import time
from collections import Counter, defaultdict
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from machine import processor
from torch._inductor import config as inductor_config
from torch._inductor.fx_utils import count_flops_fx
from torch._inductor.graph import GraphLowering
from torch._inductor.output_code import CompiledFxGraph
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.null_gpu import null_gpu

FLOP_PER_S, BYTES_PER_S = 400e12, 4e12
KINDS = (
    'selfsup/masked_finola_b',
    'selfsup/masked_finola_b_w1440',
    'selfsup/masked_finola_b_w720',
    'selfsup/masked_finola_b_narrow_w720',
    'selfsup/masked_finola_e',
    'selfsup/finola',
    'classification/supervised',
    'det/detr_mf_dec522',
    'det/own_data',
)
# Attributes of models and the names of the parts in the tables
PARTS = dict(
    backbone='encoder',
    neck='FINOLA',
    upsampler='upsampler',
    decoder='decoder',
    head='head',
    bbox_head='head',
)
OTHER = 'other'  # preparation of the batch, losses outside of the head
# Operators that only compute shapes and strides
VIEWS = set(
    '_reshape_alias _unsafe_view alias as_strided detach diagonal empty empty_like empty_strided '
    'expand lift_fresh new_empty new_empty_strided permute select slice split split_with_sizes '
    'squeeze t transpose unbind unfold unsqueeze view'.split()
)
# Operators that write their first argument, or a tensor of its shape, without reading it
FILLS = set(
    'bernoulli_ copy_ fill_ full_like new_full new_ones new_zeros normal_ ones_like rand_like '
    'uniform_ zero_ zeros_like'.split()
)
# Convolutions and the place of their argument ``groups``
CONVOLUTIONS = {torch.ops.aten.convolution: 8, torch.ops.aten.convolution_backward: 9}
SELECTIONS = {'embedding', 'gather', 'index', 'index_select'}
UPDATES = {'index_add_', 'index_put_', 'scatter_add_', 'scatter_'}


class Result(NamedTuple):
    """A step of a model: a row of the second table."""

    model: str
    batch_size: int
    waits: int
    host_ms: float
    totals: Counter
    peer: 'Result | None' = None


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'kinds', nargs='*', metavar='KIND', help='a config below configs/, without .py'
    )
    parser.add_argument('--batch', type=int, help="images per step; default: the config's")
    parser.add_argument('--compile', action='store_true', help='also measure compiled models')
    return parser.parse_args()


def tensor_bytes(tensors) -> int:
    """Return the memory that tensors on the device cover; positions of stride 0 count once."""
    total = 0
    for tensor in {id(t): t for t in tensors if t.is_cuda and t.numel()}.values():
        covered = tensor.element_size()
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            covered *= size if stride else 1
        total += covered
    return total


def tensors_in(value) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def traffic(operator, args, kwargs, output) -> int:
    """Return the bytes that an operator must read and write."""
    name = operator._schema.name.removeprefix('aten::')
    read, written = [], tensors_in(output)
    for i, argument in enumerate(operator._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        # The fused AdamW is declared to write the gradients, for loss scaling.
        if argument.alias_info and argument.alias_info.is_write and argument.name != 'grads':
            written += tensors_in(value)
        if not argument.is_out:
            read += tensors_in(value)
    if name in FILLS:
        read = read[1:]
    if name in SELECTIONS:  # of the source, what is selected
        return 2 * tensor_bytes(written) + tensor_bytes(read[1:])
    if name in UPDATES:  # of the destination, what is updated
        return 3 * tensor_bytes(read[-1:])
    moved = tensor_bytes(read) + tensor_bytes(written)
    if 'batch_norm' in name and 'elemt' not in name:
        if 'backward' in name:  # reads map and gradient for two sums, and once more
            moved += tensor_bytes([t for t in read if t.ndim > 2][:2])
        elif name == '_batch_norm_with_update' or True in args[5:6]:
            moved += tensor_bytes(read[:1])  # training: reads the map for its statistics, too
    return moved


def flop(operator, args, kwargs, output) -> int:
    """Return the FLOP of products, attention and dense convolutions."""
    packet = operator._overloadpacket
    if packet not in flop_registry:
        return 0
    if packet in CONVOLUTIONS and args[CONVOLUTIONS[packet]] > 1:
        return 0
    return flop_registry[packet](*args, **kwargs, out_val=output)


class Tracer(TorchDispatchMode):
    """Launches, FLOP, bytes and seconds at least, by part."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: dict[str, Counter] = defaultdict(Counter)
        self.part = OTHER
        self.counts = null_gpu.Counts()
        self.launches = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        output = operator(*args, **(kwargs or {}))
        tensors = tensors_in((args, kwargs, output))
        if operator._overloadpacket.__name__ not in VIEWS and any(t.is_cuda for t in tensors):
            products = flop(operator, args, kwargs or {}, output)
            moved = traffic(operator, args, kwargs or {}, output)
            bound = max(products / FLOP_PER_S, moved / BYTES_PER_S)
            self.totals[self.part].update(flop=products, bytes=moved, seconds=bound)
        return output

    def enter(self, part: str) -> None:
        """Assign all from here on to ``part``."""
        launches, _ = self.counts.read()
        self.totals[self.part]['launches'] += launches - self.launches
        self.part, self.launches = part, launches

    def watch(self, part: str, module: torch.nn.Module) -> None:
        """Assign the forward and backward pass of ``module`` to ``part``."""

        def leave(module, args, output):
            self.enter(OTHER)
            for tensor in tensors_in(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda _: self.enter(part))

        module.register_forward_pre_hook(lambda *_: self.enter(part))
        module.register_forward_hook(leave)


@contextlib.contextmanager
def inductor_totals():
    """Yield a counter of FLOP, bytes and seconds at least of Inductor's kernels, as graphs run.

    The graphs must be compiled within this context. Layers that are alike may share a graph.
    """
    totals: Counter = Counter()
    generate, init = GraphLowering.codegen, CompiledFxGraph.__init__
    call = CompiledFxGraph.__call__

    def generate_and_count(graph):
        code = generate(graph)
        graph.totals = Counter()
        for node in graph.scheduler.nodes:
            moved, products = map(hint, (node.get_read_write_buffers_sizes(), node_flop(node)))
            bound = max(products / FLOP_PER_S, moved / BYTES_PER_S)
            graph.totals.update(flop=products, bytes=moved, seconds=bound)
        return code

    def keep_totals(self, current_callable, graph, *args, **kwargs):
        init(self, current_callable, graph, *args, **kwargs)
        self.totals = graph.totals

    def run_and_count(self, inputs):
        totals.update(self.totals)
        return call(self, inputs)

    with (
        mock.patch.object(GraphLowering, 'codegen', generate_and_count),
        mock.patch.object(CompiledFxGraph, '__init__', keep_totals),
        mock.patch.object(CompiledFxGraph, '__call__', run_and_count),
        inductor_config.patch(fx_graph_cache=False),  # graphs in it are not compiled
    ):
        yield totals


def hint(size: int | torch.SymInt) -> int:
    """Return the value of a size in this batch; ``int`` would compile for this size alone."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


def node_flop(node) -> int | torch.SymInt:
    """Return the FLOP of a call of cuBLAS, cuDNN or attention in a graph of Inductor.

    As in ``flop``, a grouped convolution counts as 0.
    """
    if not node.is_extern():
        return 0
    kernel = node.node
    origin = kernel.get_origin_node()
    overload = getattr(kernel, 'op_overload', None)
    for source in [origin] if origin else kernel.origins:
        groups = CONVOLUTIONS.get(getattr(source.target, '_overloadpacket', None))
        if groups is not None and source.args[groups] > 1:
            return 0
        if source.target is overload and not origin:  # of several outputs, such as attention
            return count_flops_fx(source) or 0
    return node.estimate_flops() or 0


def host_ms(trainee, steps: int = 15) -> float:
    """Return the least CPU time of a step in milliseconds; other processes only add to it."""
    times = []
    for _ in range(steps):
        batch = trainee.batch()
        start = time.process_time()
        trainee.train_step(batch)
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def trace(trainee, renamed: dict[str, str]) -> tuple[dict[str, Counter], int]:
    """Return part -> totals, and the waits of a step."""
    tracer = Tracer()
    model, optim_wrapper = trainee.model, trainee.optim_wrapper
    for attribute, part in PARTS.items():
        if isinstance(module := getattr(model, attribute, None), torch.nn.Module):
            tracer.watch(renamed.get(part, part), module)
    step = optim_wrapper.step

    def step_as_part(**kwargs):
        tracer.enter('optimizer')
        step(**kwargs)

    optim_wrapper.step = step_as_part
    batch = trainee.batch()
    tracer.counts = null_gpu.Counts()
    with tracer:
        trainee.train_step(batch)
    tracer.enter(OTHER)
    return tracer.totals, tracer.counts.read()[1]


def measure(model: str, cfg, batch_size: int, *, renamed=None, compiled=False) -> list[Result]:
    """Measure a step, and with ``compiled`` also a compiled one; print a row for each part."""
    from finola_mm.apis.trainee import Trainee

    renamed = renamed or {}

    with contextlib.redirect_stdout(sys.stderr):  # the tables alone in standard output
        trainee = Trainee(cfg, batch_size)
    for _ in range(3):
        trainee.train_step(trainee.batch())
    host = host_ms(trainee)
    parts, waits = trace(trainee, renamed)
    for part, totals in parts.items():
        print_row(model, batch_size, part, f'{totals["launches"]}', *figures(totals))
    results = [Result(model, batch_size, waits, host, sum(parts.values(), Counter()))]
    if compiled:
        with contextlib.redirect_stdout(sys.stderr), inductor_totals() as totals:
            trainee = Trainee(cfg, batch_size)  # without the tracer's hooks
            torch._dynamo.config.recompile_limit = 64  # for the layers of MAE's encoder
            trainee.compile(parts=('backbone', 'neck') if renamed else None)
            for _ in range(3):
                trainee.train_step(trainee.batch())
            batch, counts = trainee.batch(), null_gpu.Counts()
            totals.clear()
            trainee.train_step(batch)
            launches, waits = counts.read()
        print_row(model, batch_size, 'compiled parts', '', *figures(totals))
        for attribute, part in PARTS.items():
            module = getattr(trainee.model, attribute, None)
            if getattr(module, '_compiled_call_impl', None) is not None:
                parts.pop(renamed.get(part, part))
        totals = sum(parts.values(), Counter()) + totals
        totals['launches'] = launches
        results.append(Result(f'{model}, compiled', batch_size, waits, host_ms(trainee), totals))
    return results


def figures(totals: Counter) -> list[str]:
    """Return TFLOP, GB and the bound in ms."""
    return [
        f'{totals["flop"] / 1e12:.2f}',
        f'{totals["bytes"] / 1e9:.1f}',
        f'{1e3 * totals["seconds"]:.2f}',
    ]


def print_row(*cells) -> None:
    print(f'| {" | ".join(map(str, cells))} |', flush=True)


def main() -> None:
    args = parse_args()
    null_gpu.restart()
    from finola_mm.apis.trainee import MAE_PEERS, mae_model
    from tests.null_gpu.kinds import load_config

    logging.disable(logging.WARNING)  # MMEngine logs the options of every parameter
    configs = {kind: load_config(kind) for kind in args.kinds or KINDS}
    print(f'host: {processor()}; torch {torch.__version__}; bfloat16\n')
    print_row('model', 'batch', 'part', 'launches', 'TFLOP', 'GB', 'bound, ms')
    print_row(*7 * ['---'])
    results, peers = [], {}
    for kind, cfg in configs.items():
        batch_size = args.batch or cfg.train_dataloader.batch_size
        key = cfg.model.backbone.get('arch', '').upper(), batch_size  # W2880 and the like
        compared = cfg.model.type in ('finola_mm.FINOLA', 'finola_mm.MaskedFINOLA')
        compared &= key[0] in MAE_PEERS
        if compared and key not in peers:
            name, *shape = MAE_PEERS[key[0]]
            recipe = load_config('selfsup/masked_finola_b')
            recipe.model = dict(mae_model(*shape), data_preprocessor=recipe.data_preprocessor)
            peers[key] = measure(
                f'MAE {name}',
                recipe,
                batch_size,
                renamed=dict(FINOLA='decoder'),
                compiled=args.compile,
            )
            results += peers[key]
        ours = measure(kind.split('/')[-1], cfg, batch_size, compiled=args.compile)
        for result, peer in zip_longest(ours, peers[key] if compared else ()):
            results.append(result._replace(peer=peer))  # compiled beside compiled
    print()
    print_row(
        'model', 'batch', 'launches', 'waits', 'TFLOP', 'GB', 'bound, ms', "/ MAE's", 'host, ms'
    )
    print_row(*9 * ['---'])
    for model, batch_size, waits, host, totals, peer in results:
        ratio = f'{totals["seconds"] / peer.totals["seconds"]:.2f}' if peer else ''
        counts = totals['launches'], waits
        print_row(model, batch_size, *counts, *figures(totals), ratio, f'{host:.0f}')


if __name__ == '__main__':
    main()
