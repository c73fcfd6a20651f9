"""Compare the time of `finola()` with that of its matrix products alone, the lower bound.

    python benchmarks/finola_op.py [--threads 2] [--turns 7] [--cases C512 C1024 C3072 64x64]

Four implementations run in turns in one process, in float32; a ratio is the median over the turns.

* products: the matrix products of the recurrence alone: M n(z) of each step and its two gradients,
  M^T dz of each step and dz n(z)^T of all steps at once. Inputs are random; inputs and outputs are
  allocated beforehand. The four directions take one call or four, depending on which is faster.
* finola: `finola_mm.functional.finola`, which keeps two maps of n(z) for the backward pass, and no
  z.
* batched: all chains of an axis at once, with torch's autograd.
* loop: one position after the other, in both orders, with torch's autograd.

Memory is the increase of the peak during the call: of resident memory in a fresh process (Linux),
or of CUDA tensors on a GPU. It excludes the inputs and the outputs of the products.
"""

import argparse
import statistics
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from machine import machine
from mmengine.device import get_device

from finola_mm.functional import finola, norm_linear_step

# name: C, N, side of the map
CASES = {
    'C512': (512, 32, 16),
    'C1024': (1024, 32, 16),
    'C3072': (3072, 8, 16),
    '64x64': (128, 8, 64),
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--turns', type=int, default=7, help='timed calls per implementation')
    parser.add_argument('--loop-turns', type=int, default=2, help='timed calls of the loop, or 0')
    parser.add_argument('--no-memory', action='store_true', help='measure only times')
    return parser.parse_args()


def sides(side):
    """Return the numbers of backward and forward steps of a chain around its middle."""
    return side // 2, side - 1 - side // 2


class Products:
    """The matrix products alone: per direction a line of N rows, then chains of N * side rows."""

    def __init__(self, c, n, side):
        generator = torch.Generator().manual_seed(0)
        new = partial(torch.randn, generator=generator)
        steps = sides(side)[0]
        self.matrices = new(4, c, c).to(get_device())
        self.shorter = sides(side)[1]
        # Per direction: (rows of a step, steps) of the line and of the chains.
        self.rows = [(n, steps), (n * side, steps)]
        total = sum(rows * steps for rows, steps in self.rows)
        self.n, self.dz = (new(4, total, c).to(get_device()) for _ in range(2))
        self.out = self.n.new_empty(4, n * side, c)  # overwritten by each step
        self.dm = torch.empty_like(self.matrices)
        self.at_once = True
        times = [self.seconds(at_once) for at_once in (True, False, True, False)]
        self.at_once = min(times[::2]) < min(times[1::2])

    def seconds(self, at_once):
        self.at_once = at_once
        start = now()
        self.run(backward=True)
        return now() - start

    def run(self, backward):
        self.step_products(self.n, self.matrices.mT)  # M n
        if backward:
            self.step_products(self.dz, self.matrices)  # M^T dz
            self.multiply(self.dz.mT, self.n, self.dm)  # dz n^T

    def step_products(self, vectors, matrices):
        start = 0
        for rows, steps in self.rows:
            for step in range(steps):
                here = slice(start, start + rows)
                # On an even side the second of two opposite directions has one step less.
                some = slice(None, None, 1 if step < self.shorter else 2)
                self.multiply(vectors[some, here], matrices[some], self.out[some, :rows])
                start += rows

    def multiply(self, a, b, out):
        if self.at_once:
            torch.bmm(a, b, out=out)
        else:
            for x, y, into in zip(a, b, out, strict=True):
                torch.mm(x, y, out=into)


def batched(q, A, A_neg, B, B_neg, size):
    """Unroll q (N, C) -> (N, H, W, C), all chains of an axis at once."""

    def chains(line, forth, back, length):  # (N, ..., C) -> (N, length, ..., C)
        origin = length // 2
        slabs = [line]
        for _ in range(origin):
            slabs.insert(0, norm_linear_step(slabs[0], back))
        for _ in range(length - 1 - origin):
            slabs.append(norm_linear_step(slabs[-1], forth))
        return torch.stack(slabs, 1)

    column, row = chains(q, B, B_neg, size[0]), chains(q, A, A_neg, size[1])
    return (chains(column, A, A_neg, size[1]).transpose(1, 2) + chains(row, B, B_neg, size[0])) / 2


def loop(q, A, A_neg, B, B_neg, size):
    """Unroll q (N, C) -> (N, H, W, C), one position after the other."""

    def along_x(z, u):
        return norm_linear_step(z[u - 1], A) if u > 0 else norm_linear_step(z[u + 1], A_neg)

    def along_y(z, v):
        return norm_linear_step(z[v - 1], B) if v > 0 else norm_linear_step(z[v + 1], B_neg)

    def line(start, step, length):
        back, forth = length // 2, length - 1 - length // 2
        z = {0: start}
        for i in [*range(1, forth + 1), *range(-1, -back - 1, -1)]:
            z[i] = step(z, i)
        return [z[i] for i in sorted(z)]

    h, w = size
    x_then_y = [line(z, along_y, h) for z in line(q, along_x, w)]  # [x][y]
    y_then_x = [line(z, along_x, w) for z in line(q, along_y, h)]  # [y][x]
    rows = [
        torch.stack([(x_then_y[x][y] + y_then_x[y][x]) / 2 for x in range(w)], 1) for y in range(h)
    ]
    return torch.stack(rows, 1)


def whole(q, A, A_neg, B, B_neg, size):
    return finola(q, A, A_neg, B, B_neg, size).permute(0, 2, 3, 1)


PEERS = {'finola': whole, 'batched': batched, 'loop': loop}


class Peer:
    """One implementation of the recurrence, with its inputs."""

    def __init__(self, name, c, n, side):
        generator = torch.Generator().manual_seed(0)
        shapes = (n, c), *[(c, c)] * 4
        self.function, self.size = PEERS[name], (side, side)
        self.inputs = [
            (torch.randn(s, generator=generator) * (1 if s[0] == n else c**-0.5)).to(get_device())
            for s in shapes
        ]
        self.inputs = [x.requires_grad_() for x in self.inputs]
        self.grad = torch.randn(n, side, side, c, generator=generator).to(get_device())

    def run(self, backward):
        with torch.set_grad_enabled(backward):
            z = self.function(*self.inputs, self.size)
        return torch.autograd.grad(z, self.inputs, self.grad) if backward else z


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def build(name, case):
    return Products(*CASES[case]) if name == 'products' else Peer(name, *CASES[case])


def take_turns(case, args):
    """Return {(name, backward): seconds of the timed calls}, in the order of the turns."""
    names = ['products', 'finola', 'batched', *['loop'] * (args.loop_turns > 0)]
    peers = {name: build(name, case) for name in names}
    times = {(name, backward): [] for backward in (False, True) for name in names}
    for turn in range(-1, args.turns):  # one warm-up turn
        order = names if turn % 2 else names[::-1]  # alternate the order
        for name, backward in [(name, b) for b in (False, True) for name in order]:
            if name == 'loop' and not 0 <= turn < args.loop_turns:
                continue
            start = now()
            peers[name].run(backward)
            if turn >= 0:
                times[name, backward].append(now() - start)
    return times


def peak_mib(name, case, backward, threads):
    """Return the increase of the peak memory during one call, in MiB."""
    torch.set_num_threads(threads)
    peer = build(name, case)
    tiny = Peer('finola' if name == 'products' else name, 64, 2, 3)
    tiny.run(backward)  # allocations that libraries make once are not counted
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        peer.run(backward)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = status_kib('VmRSS')
    peer.run(backward)
    return (status_kib('VmHWM') - before) / 2**10


def status_kib(field):
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def in_a_fresh_process(*args):
    with get_context('spawn').Pool(1) as pool:
        return pool.apply(peak_mib, args)


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(f'{machine()}, float32')
    for case in args.cases:
        c, n, side = CASES[case]
        times = take_turns(case, args)
        print(f'\nC = {c}, N = {n}, {side} x {side}')
        print(f'{"":10}{"forward":>20}{"forward + backward":>30}')
        print(f'{"":10}' + 2 * f'{"s":>10}{"x products":>12}{"MiB":>8}')
        for name in dict.fromkeys(name for name, _ in times):
            shown = ''
            for backward in (False, True):
                own, floor = times[name, backward], times['products', backward]
                ratio = statistics.median(a / b for a, b in zip(own, floor, strict=False))
                mib = (
                    '-'
                    if args.no_memory
                    else (f'{in_a_fresh_process(name, case, backward, args.threads):.0f}')
                )
                shown += f'{statistics.median(own):10.4f}{ratio:12.2f}{mib:>8}'
            print(f'{name:10}{shown}', flush=True)


if __name__ == '__main__':
    main()
