"""Count kernel launches and waits for the device of every kind of config, on the null GPU.

    python -m tests.null_gpu.count [KIND ...]         compare with the committed table, counts.csv
    python -m tests.null_gpu.count KIND ... --lines   also list the lines of code that wait
    python -m tests.null_gpu.count --write            rewrite the table

Run it from the root of the checkout. A step in bfloat16 and a prediction are counted for two images
each, and iterations of tools/train.py with its data loader and hooks. Rewrite the table in the
commit that changes a count, and state the reason there. Waits may only fall: `--write` refuses to
record more of them, except with `--accept-waits`.
"""

import argparse
import csv
import json
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.null_gpu import null_gpu

TABLE = Path(__file__).with_name('counts.csv')
BATCH_SIZE = 2
TOOL = 'tools/train.py '
# Configs of the tool's runs, and their options
TOOL_RUNS = {
    'selfsup/masked_finola_b_w720': (),
    'det/own_data': ('--pretrained', 'none'),
}
TOOL_ITERATIONS = range(2, 5)  # counted; the optimizer creates its state in iteration 0


class Row(NamedTuple):
    """Counts of a kind, per step or iteration; empty: not applicable."""

    kind: str
    launches_training: str
    waits_training: str
    launches_prediction: str = ''
    waits_prediction: str = ''
    remark: str = ''


def all_names() -> list[str]:
    """Return the kinds of config, and the runs of the tool."""
    from tests.null_gpu.kinds import LEFT_OUT, kinds

    return [k for k in kinds() if k not in LEFT_OUT] + [TOOL + config for config in TOOL_RUNS]


def split_by_package(names: list[str]) -> list[list[str]]:
    """Split names into those on mmpretrain and those on mmdet."""
    detection = [name for name in names if name.removeprefix(TOOL).startswith('det/')]
    return [part for part in ([n for n in names if n not in detection], detection) if part]


# ---- On the null GPU


def count(name: str, show_lines: bool = False) -> Row:
    """Count launches and waits of a kind or of a run of the tool."""
    if name.startswith(TOOL):
        return count_tool(name.removeprefix(TOOL), show_lines)
    from finola_mm.apis.trainee import Trainee
    from tests.null_gpu.kinds import load_config

    trainee = Trainee(load_config(name), BATCH_SIZE)
    values: list[str] = []
    steps = [trainee.train_step]
    if trainee.cfg.model.type != 'MoCo':  # it predicts nothing
        steps.append(trainee.predict)
    for step in steps:
        step(trainee.batch())  # creates the optimizer's state, cuBLAS's workspace and the like
        batch, counts = trainee.batch(), null_gpu.Counts()
        step(batch)
        values += map(str, counts.read())
        if show_lines:
            with null_gpu.waiting_lines() as lines:
                step(trainee.batch())
            print_lines(f'{name} {step.__name__}', lines)
    return Row(name, *values)


def count_tool(config: str, show_lines: bool) -> Row:
    """Count launches and waits per iteration of tools/train.py."""
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS

    values: list[str] = []
    counted_lines: Counter[str] = Counter()

    @HOOKS.register_module(force=True)
    class CountHook(Hook):
        """Count from the start of an iteration to that of a later one: data, step and hooks."""

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == TOOL_ITERATIONS.start:
                self.counts = null_gpu.Counts()
                lines.clear()
            if runner.iter == TOOL_ITERATIONS.stop:
                values[:] = [f'{n / len(TOOL_ITERATIONS):.4g}' for n in self.counts.read()]
                counted_lines.update(lines)

    with tempfile.TemporaryDirectory() as folder, null_gpu.waiting_lines() as lines:
        options = write_data(config, Path(folder))
        path = Path(folder, 'counted.py')
        path.write_text(
            f'_base_ = [{str(null_gpu.ROOT / "configs" / config) + ".py"!r}]\n'
            "custom_hooks = [*_base_.custom_hooks, dict(type='CountHook')]\n"
            "log_level = 'ERROR'\n"
        )
        sys.argv = ['train.py', str(path), '--amp', '--no-validate', '--work-dir', folder]
        sys.argv += [*TOOL_RUNS[config], '--cfg-options', *options]
        runpy.run_path(str(null_gpu.ROOT / 'tools/train.py'), run_name='__main__')
    if show_lines:
        print_lines(f'{len(TOOL_ITERATIONS)} iterations of {TOOL}{config}', counted_lines)
    return Row(TOOL + config, *values)


def write_data(config: str, folder: Path) -> list[str]:
    """Write small images for a run of the tool; return the ``--cfg-options`` that select them."""
    count = BATCH_SIZE * (TOOL_ITERATIONS.stop + 1)
    options = [
        f'train_dataloader.batch_size={BATCH_SIZE}',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        f'train_dataloader.dataset.dataset.data_root={folder}/data',
        'train_cfg.max_epochs=1',
    ]
    if config.startswith('det/'):
        from tests.tools.small_detector import write_scenes

        write_scenes(folder / 'data', count)
    else:
        (folder / 'data/train').mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f'data/train/{i}.png')
    return options


def print_lines(title: str, lines: Counter[str]) -> None:
    print(f'{title}:')
    for line, number in lines.most_common():
        print(f'{number:6} {line}')


# ---- On the CPU


def measure(names: list[str], show_lines: bool = False) -> list[Row]:
    """Count in one process on the null GPU for each package."""
    rows = []
    for part in split_by_package(names):
        with tempfile.NamedTemporaryFile('r') as file:
            command = [sys.executable, '-m', __spec__.name, '--json', file.name, *part]
            result = subprocess.run(
                command + ['--lines'] * show_lines,
                env=null_gpu.environment(),
                cwd=null_gpu.ROOT,
                stdout=None if show_lines else subprocess.PIPE,
                stderr=None if show_lines else subprocess.STDOUT,
                text=True,
            )
            if result.returncode:
                raise RuntimeError(f'exit status {result.returncode}: {result.stdout}'[-6000:])
            rows += [Row(*row) for row in json.load(file)]
    return rows


def read_table() -> dict[str, Row]:
    """Return the committed counts by kind."""
    with TABLE.open(newline='') as file:
        return {row['kind']: Row(**row) for row in csv.DictReader(file)}


def write_table(rows: list[Row]) -> None:
    from tests.null_gpu.kinds import LEFT_OUT

    rows = [*rows, *(Row(kind, '', '', remark=reason) for kind, reason in LEFT_OUT.items())]
    with TABLE.open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerows([Row._fields, *rows])


def differences(rows: list[Row], table: dict[str, Row]) -> list[str]:
    """Return a line for each count that differs from the table."""
    found = []
    for row in rows:
        known = table.get(row.kind, Row(row.kind, '-', '-', '-', '-'))
        for name, value, recorded in zip(row._fields, row, known, strict=True):
            if value != recorded and name != 'remark':
                found.append(f'{row.kind}: {name.replace("_", " in ")} {recorded} -> {value}')
    return found


def more_waits(rows: list[Row], table: dict[str, Row]) -> list[str]:
    """Return the kinds that wait more often than in the table."""
    return [
        row.kind
        for row in rows
        for name in ('waits_training', 'waits_prediction')
        if row.kind in table
        and float(getattr(row, name) or 0) > float(getattr(table[row.kind], name) or 0)
    ]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m tests.null_gpu.count', description=__doc__.split('\n')[0]
    )
    parser.add_argument('kinds', nargs='*', metavar='KIND', help='as in the table; default: all')
    parser.add_argument('--lines', action='store_true', help='list the lines of code that wait')
    parser.add_argument('--write', action='store_true', help='rewrite the table')
    parser.add_argument(
        '--accept-waits', action='store_true', help='with --write: also record more waits'
    )
    parser.add_argument('--json', metavar='FILE', help=argparse.SUPPRESS)  # of `measure`
    args = parser.parse_args()
    if args.write and args.kinds:
        parser.error('--write rewrites the whole table; omit KIND')
    if unknown := set(args.kinds) - set(all_names()):
        parser.error(f'no such kind: {", ".join(unknown)}; choose from {", ".join(all_names())}')
    return args


def main() -> None:
    args = parse_args()
    if args.json:
        null_gpu.restart()
        rows = [count(name, args.lines) for name in args.kinds]
        Path(args.json).write_text(json.dumps(rows))
        return
    if reason := null_gpu.missing_requirement():
        sys.exit(reason)
    start = time.monotonic()
    rows = measure(args.kinds or all_names(), args.lines)
    table = read_table() if TABLE.exists() else {}
    for row in rows:
        print(f'{row.kind:42}' + ''.join(f'{value:>9}' for value in row[1:5]))
    print('\n'.join(differences(rows, table)) or 'as in the table')
    print(f'{time.monotonic() - start:.0f} s')
    if args.write:
        if (risen := more_waits(rows, table)) and not args.accept_waits:
            sys.exit(f'more waits: {", ".join(risen)}. Find them with --lines and remove them')
        write_table(rows)


if __name__ == '__main__':
    main()
