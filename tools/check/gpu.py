"""Measure on a GPU, in eight minutes, what no machine without one can tell.

    python tools/check/gpu.py [--out DIR] [--budget SECONDS] [--stages parity,steps,...]
    python tools/check/gpu.py --report DIR/results.jsonl    # Markdown for docs/results.md

The stages run in the order of `STAGES`, the most informative first. Each has a process and a time
limit of its own, and a part of a stage that fails does not prevent the next one. Every result is
written at once, as a line of JSON, so that an interrupted check keeps what it has. Losses and
gradients are compared with those of the CPU; times are those of training steps on random images.
"""

import argparse
import contextlib
import copy
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from finola_mm.apis import command_line, int_range, make_folder
from finola_mm.apis.trainee import MAE_PEERS, Trainee, mae_model
from finola_mm.errors import UserError

ROOT = Path(__file__).parents[2]
WIDTHS = {'': 'W2880', '_w720': 'W720', '_w1440': 'W1440'}
# Small batches of many kinds, whose results are compared with those of the CPU: kind -> images
PARITY = {
    'selfsup/masked_finola_b_w720': 4,
    'selfsup/masked_finola_e_w720': 4,
    'selfsup/finola_multipath_w720': 2,
    'selfsup/mocov2_w720': 4,
    'classification/lin_w720': 4,
    'classification/tran1_ft_w720': 4,
    'det/detr_mf_dec211_w720_finetune': 2,
}
SMALL_RUN = (
    'train_dataloader.batch_size=24',
    'val_dataloader.batch_size=24',
    'train_dataloader.num_workers=4',
    'val_dataloader.num_workers=2',
    'default_hooks.logger.interval=5',
)


class Recorder:
    """Write the results of a stage to a file, and print them."""

    def __init__(self, file: Path, stage: str) -> None:
        self.file, self.stage = file, stage

    def __call__(self, **values: Any) -> None:
        line = json.dumps({'stage': self.stage, **values}, default=str)
        print(line, flush=True)
        with self.file.open('a') as file:
            file.write(line + '\n')

    @contextlib.contextmanager
    def attempt(self, **names: Any) -> Iterator[None]:
        """Record an error, and continue with the next part of the stage."""
        try:
            yield
        except Exception as error:
            self(**names, error=f'{type(error).__name__}: {error}'.partition('\n')[0][:300])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# ---- Measuring


def load(kind: str) -> Config:
    """Load a config below configs/, or 'mae W2880' for the MAE that W2880 is compared with."""
    if not kind.startswith('mae '):
        return Config.fromfile(ROOT / f'configs/{kind}.py')
    cfg = load('selfsup/masked_finola_b')
    _, arch, embed_dims = MAE_PEERS[kind.removeprefix('mae ')]
    cfg.model = dict(mae_model(arch, embed_dims), data_preprocessor=cfg.data_preprocessor)
    return cfg


def synchronize() -> float:
    """Wait for the device; return the time in seconds."""
    if get_device() == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def clock_steps(trainee: Trainee, steps: int = 12, warm_up: int = 4) -> dict[str, float]:
    """Time training steps.

    Returns ms per step (median) if the loss is read after every step, ms if it is never read, ms of
    CPU time until a step is launched (median), and the peak memory in GiB.
    """
    batches = [trainee.batch(seed) for seed in range(3)]

    def step(i: int) -> dict[str, torch.Tensor]:
        return trainee.train_step(copy.copy(batches[i % 3]))

    for i in range(warm_up):
        step(i)
    start, times, host = synchronize(), [], []
    if get_device() == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    for i in range(steps):
        step(i)['loss'].item()
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    start = synchronize()
    for i in range(steps):
        launched = time.process_time()
        step(i)
        host.append(time.process_time() - launched)
    unread = (synchronize() - start) / steps
    peak = torch.cuda.max_memory_allocated() if get_device() == 'cuda' else 0
    return dict(
        ms=round(1e3 * statistics.median(times), 2),
        ms_unread=round(1e3 * unread, 2),
        cpu_ms=round(1e3 * statistics.median(host), 2),
        peak_GiB=round(peak / 2**30, 2),
    )


def rate(call: Callable[[], Any], repeats: int = 20) -> float:
    """Return the seconds that a call takes on the device."""
    for _ in range(5):
        call()
    start = synchronize()
    for _ in range(repeats):
        call()
    return (synchronize() - start) / repeats


def gradients(
    model: nn.Module, batch: dict[str, Any], precision: torch.dtype | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a batch and its gradients, in float32 on the CPU."""
    device = next(model.parameters()).device.type
    scale = 1024.0 if precision is torch.float16 else 1.0
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, True)
    with torch.autocast(device, precision, enabled=precision is not None):
        loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
    (scale * loss).backward()
    named = model.named_parameters()
    return loss.item(), {k: p.grad.float().cpu() / scale for k, p in named if p.grad is not None}


def build_without_dropout(kind: str, batch_size: int) -> Trainee:
    """Build a trainee in which no random number depends on the device."""
    cfg = load(kind)
    if cfg.model.type == 'ImageClassifier':
        cfg.model.pop('train_cfg', None)  # mixup
    trainee = Trainee(cfg, batch_size, precision='float32')
    for module in trainee.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return trainee


# ---- Stages


def facts(record: Recorder) -> None:
    """Versions; the time of a launch, of copies and products; depthwise convolutions by layout."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    record(torch=torch.__version__, cudnn=torch.backends.cudnn.version(), device=device)
    x = torch.zeros(1024, device=get_device())
    record(launch_us=round(1e6 * rate(lambda: x.add_(1), 5000), 2))
    x = torch.zeros(2**27, device=get_device())
    y = torch.empty_like(x)
    record(copy_TB_per_s=round(2 * 4 * x.numel() / rate(lambda: y.copy_(x)) / 1e12, 2))
    m = torch.randn(8192, 8192, device=get_device(), dtype=torch.bfloat16)
    record(matmul_TFLOP_per_s=round(2 * 8192**3 / rate(lambda: m @ m) / 1e12))
    # Depthwise 3 x 3 convolutions of W2880: stages 2 and 4, and the last map, of 128 images
    for shape in ((128, 384, 32, 32), (128, 1408, 8, 8), (128, 2880, 8, 8)):
        row = {}
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(shape, device=get_device(), dtype=torch.bfloat16)
            x = x.contiguous(memory_format=layout).requires_grad_()
            w = torch.randn(shape[1], 1, 3, 3, device=x.device, dtype=x.dtype, requires_grad=True)
            y = torch.conv2d(x, w, padding=1, groups=shape[1])
            grad = torch.randn_like(y)
            passes = dict(
                forward=lambda x=x, w=w: torch.conv2d(x, w, padding=1, groups=len(w)),
                backward=lambda x=x, w=w, y=y, grad=grad: torch.autograd.grad(
                    y, (x, w), grad, retain_graph=True
                ),
            )
            for name, call in passes.items():
                layout_name = str(layout).removeprefix('torch.')
                row[f'{layout_name} {name}, us'] = round(1e6 * rate(call))
        record(depthwise=shape, **row)


def parity(record: Recorder, kinds: dict[str, int] = PARITY) -> None:
    """Losses and gradients compared with those of the CPU in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for kind, images in kinds.items():
        with record.attempt(kind=kind):
            trainee = build_without_dropout(kind, images)
            model = trainee.model  # MoCo's loss changes it: each is computed with a copy
            loss, expected = gradients(copy.deepcopy(model).cpu(), trainee.batch())
            norm = sum(g.square().sum() for g in expected.values()).sqrt()
            for precision in (None, torch.bfloat16, torch.float16):
                found, grads = gradients(copy.deepcopy(model), trainee.batch(), precision)
                off = sum((grads[k] - g).square().sum() for k, g in expected.items()).sqrt()
                record(
                    kind=kind,
                    precision=str(precision or torch.float32).removeprefix('torch.'),
                    loss=found,
                    loss_on_cpu=loss,
                    relative_difference_of_gradients=float(f'{off / norm:.3g}'),
                    same_parameters=grads.keys() == expected.keys(),
                )


def steps(record: Recorder) -> None:
    """Training steps of masked FINOLA-B beside MAE's, 128 images, without torch.compile."""
    for suffix, width in WIDTHS.items():
        for kind in (f'selfsup/masked_finola_b{suffix}', f'mae {width}'):
            with record.attempt(kind=kind):
                record(kind=kind, batch_size=128, **clock_steps(Trainee(load(kind), 128)))


def profile(record: Recorder) -> None:
    """The kernels of a step by their time, and the share of the step in which the GPU is busy."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    for kind in ('selfsup/masked_finola_b', 'selfsup/masked_finola_b_w720'):
        with record.attempt(kind=kind):
            trainee = Trainee(load(kind), 128)
            for _ in range(4):
                trainee.train_step(trainee.batch())
            synchronize()
            with torch.profiler.profile(activities=activities) as profiler:
                trainee.train_step(trainee.batch())
                synchronize()
            on_gpu = torch.autograd.DeviceType.CUDA
            events = [event for event in profiler.events() if event.device_type == on_gpu]
            busy, end = 0.0, 0.0
            for event in sorted(events, key=lambda event: event.time_range.start):
                busy += max(0.0, event.time_range.end - max(event.time_range.start, end))
                end = max(end, event.time_range.end)
            span = end - min((event.time_range.start for event in events), default=end)
            record(kind=kind, kernels=len(events), busy_ms=busy / 1e3, span_ms=span / 1e3)
            totals: dict[str, list[float]] = {}
            for event in events:
                totals.setdefault(event.name, []).append(event.time_range.elapsed_us())
            slowest = sorted(totals.items(), key=lambda item: -sum(item[1]))[:25]
            for name, times in slowest:
                record(kind=kind, kernel=name[:120], number=len(times), ms=sum(times) / 1e3)


def variants(record: Recorder) -> None:
    """One setting changed at a time."""
    table = (
        ('selfsup/masked_finola_b', 128, {}),
        ('selfsup/masked_finola_b', 128, dict(channels_last=False)),
        ('selfsup/masked_finola_b', 128, dict(cudnn_benchmark=True)),
        ('classification/supervised', 128, {}),
        ('classification/supervised', 128, dict(channels_last=False)),
        ('selfsup/finola', 16, {}),
        ('selfsup/finola', 16, dict(channels_last=False)),
        ('selfsup/masked_finola_e', 128, {}),
    )
    for kind, batch_size, change in table:
        with record.attempt(kind=kind, change=change):
            cfg = load(kind)
            cfg.merge_from_dict({k: v for k, v in change.items() if k == 'channels_last'})
            torch.backends.cudnn.benchmark = change.get('cudnn_benchmark', False)
            times = clock_steps(Trainee(cfg, batch_size), steps=8, warm_up=3)
            record(kind=kind, batch_size=batch_size, change=change, **times)


def compiled(record: Recorder) -> None:
    """Training steps with tools/train.py's --compile, and MAE compiled alike."""
    # The layers of MAE's encoder are graphs of their own. Before torch 2.6: cache_size_limit.
    config = torch._dynamo.config
    setattr(
        config, 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit', 64
    )
    for suffix, width in (('_w720', 'W720'), ('', 'W2880')):
        for kind in (f'selfsup/masked_finola_b{suffix}', f'mae {width}'):
            torch._dynamo.reset()
            with record.attempt(kind=kind):
                trainee, start = Trainee(load(kind), 128), synchronize()
                trainee.compile(parts=('backbone', 'neck') if kind.startswith('mae') else None)
                trainee.train_step(trainee.batch())
                first = round(synchronize() - start, 1)
                record(kind=kind, batch_size=128, first_step_s=first, **clock_steps(trainee))


def detection(record: Recorder) -> None:
    """Training steps and predictions of detectors; those that require mmcv's CUDA operators."""
    kinds = {'det/detr_mf_dec522': 2, 'det/detr_mf_dec522_finetune': 2, 'det/own_data': 8}
    for kind, images in {**kinds, 'det/retinanet_mf': 2, 'det/dino_mf': 2}.items():
        with record.attempt(kind=kind):
            trainee = Trainee(load(kind), images)
            times = clock_steps(trainee, steps=8, warm_up=3)
            batch = trainee.batch()
            predict_ms = 1e3 * rate(lambda t=trainee, b=batch: t.predict(copy.deepcopy(b)), 5)
            record(kind=kind, batch_size=images, predict_ms=round(predict_ms, 1), **times)


def memory(record: Recorder) -> None:
    """Larger batches."""
    for kind in ('selfsup/masked_finola_b', 'selfsup/masked_finola_b_w720', 'mae W2880'):
        for images in (512, 1024):
            with record.attempt(kind=kind, batch_size=images):
                times = clock_steps(Trainee(load(kind), images), steps=4, warm_up=2)
                record(kind=kind, batch_size=images, **times)


def tools(record: Recorder) -> None:
    """tools/train.py on generated images: one process, one rank with NCCL, a signal, a resume."""
    folder = record.file.parent / 'runs'
    make_shapes = 'tools/dataset_converters/make_shapes.py'
    sizes = ('--train-images', '240', '--val-images', '60', '--train-scenes', '8')
    shapes = (make_shapes, '--out', folder / 'shapes', *sizes, '--val-scenes', '4')
    subprocess.run([sys.executable, *shapes], cwd=ROOT, check=True, capture_output=True)
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '1')
    train(record, 'one process', folder / 'one', '--no-validate')
    train(record, 'NCCL', folder / 'nccl', '--no-validate', '--launcher', 'pytorch', start=torchrun)
    train(record, 'signal', folder / 'signal', '--no-validate', epochs=50, interrupt=True)
    train(record, 'resume', folder / 'signal', '--no-validate', '--resume')


def train(
    record: Recorder,
    name: str,
    work_dir: Path,
    *options: str,
    start: tuple[str, ...] = (),
    epochs: int = 3,
    interrupt: bool = False,
) -> None:
    """Run tools/train.py; with ``interrupt``, send SIGTERM after the first logged step."""
    settings = (*SMALL_RUN, f'train_cfg.max_epochs={epochs}')
    config = 'configs/selfsup/masked_finola_b_w720.py'
    command = (sys.executable, *start, 'tools/train.py', config, '--amp', *options)
    begin = time.monotonic()
    process = subprocess.Popen(
        [*command, '--work-dir', work_dir, '--cfg-options', *settings],
        cwd=ROOT,
        env={**os.environ, 'FINOLA_IMAGENET': str(work_dir.parent / 'shapes/imagenet')},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if interrupt and '(train)' in line:
            process.send_signal(signal.SIGTERM)
            interrupt = False
    shown = [line[-150:] for line in lines if '(train)' in line or 'Error' in line] or lines
    seconds = round(time.monotonic() - begin, 1)
    record(run=name, exit_status=process.wait(), seconds=seconds, last_lines=shown[-2:])


# Seconds at most
STAGES: dict[Callable[[Recorder], None], int] = {
    facts: 40,
    parity: 70,
    steps: 75,
    profile: 50,
    variants: 75,
    tools: 75,
    compiled: 150,
    detection: 50,
    memory: 40,
}


# ---- The check


def run_stage(name: str, file: Path, limit: float) -> None:
    """Run a stage in a process of its own, and end it and its children at the limit."""
    start = time.monotonic()
    command = [sys.executable, __file__, '--out', file.parent, '--stages', name, '--in-process']
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status: int | str = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = f'stopped after {limit:.0f} s'
    Recorder(file, name)(exit_status=status, seconds=round(time.monotonic() - start, 1))


def markdown(rows: list[dict]) -> str:
    """Return a table for each kind of result of a stage, in the order of the file."""
    tables: dict[tuple, list[dict]] = {}
    for row in rows:
        tables.setdefault((row['stage'], *(key for key in row if key != 'stage')), []).append(row)
    parts, stage = [], None
    for (title, *keys), group in tables.items():
        if title != stage:
            parts.append(f'### {title}\n')
            stage = title
        lines = [keys, len(keys) * ['---'], *([row[key] for key in keys] for row in group)]
        parts += ['| ' + ' | '.join(map(str, line)) + ' |' for line in lines] + ['']
    return '\n'.join(parts)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    names = [stage.__name__ for stage in STAGES]
    parser.add_argument('--out', default='work_dirs/gpu_check', help='folder of the results')
    parser.add_argument('--budget', type=int_range(1), default=470, help='seconds for all stages')
    parser.add_argument('--stages', default=','.join(names), help='separated by commas')
    parser.add_argument('--in-process', action='store_true', help='without the limits of stages')
    parser.add_argument('--report', metavar='FILE', help='print results as Markdown, and exit')
    args = parser.parse_args()
    if unknown := set(args.stages.split(',')) - set(names):
        parser.error(f'no such stage: {", ".join(unknown)}; choose from {", ".join(names)}')
    return args


@command_line
def main() -> None:
    args = parse_args()
    if args.report:
        print(markdown([json.loads(line) for line in Path(args.report).read_text().splitlines()]))
        return
    if get_device() != 'cuda':
        raise UserError('no GPU: torch.cuda.is_available() is False')
    file = (make_folder(args.out) / 'results.jsonl').absolute()
    start = time.monotonic()
    for stage, limit in STAGES.items():
        name, left = stage.__name__, args.budget - (time.monotonic() - start)
        if name in args.stages.split(',') and left > 0:
            if args.in_process:
                logging.disable(logging.WARNING)  # MMEngine logs the options of every parameter
                stage(Recorder(file, name))
            else:
                run_stage(name, file, min(limit, left))
    if not args.in_process:
        print(f'results: {file}')


if __name__ == '__main__':
    main()
