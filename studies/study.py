"""Run what a study lists, one small run after the other, and append what comes out to its CSV.

    python studies/study.py reconstruction            go on where it stopped: make study
    python studies/study.py reconstruction --list     what has run and what has not
    python studies/study.py reconstruction --minutes 60 --part 1/2      an hour, every second run

A run that is interrupted goes on from its last checkpoint; one whose rows are in the CSV is not run
again: delete its rows, and it starts anew. A loss that is not finite is a result: the row says so.
After every run studies/report.py writes the tables of docs/results.md from the CSV.
"""

import argparse
import csv
import functools
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

STUDIES = ('reconstruction',)
# Written beside what the study itself measures.
RECORD = ('note', 'minutes', 'date', 'commit', 'machine')
NOT_FINITE = 'loss not finite'
# One thread of the CPU: the same sums whatever the machine has, and --part for its other cores.
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
FINISHED = 'finished'  # a file in a work directory whose commands have all ended


@dataclass(frozen=True)
class Run:
    """One entry of a study.

    keys: which run it is, columns of the CSV; the variant among them.
    commands: work directory -> the command lines, each of a script of this project.
    scores: work directory -> rows of the CSV, what the keys do not say.
    """

    keys: dict
    commands: Callable[[Path], list[list[str]]]
    scores: Callable[[Path], list[dict]]

    @property
    def name(self) -> str:
        """Of the work directory, and in the CSV."""
        return re.sub(r'[^a-z0-9]+', '-', ' '.join(map(str, self.keys.values())).lower()).strip('-')


def train(config: str, options: dict, work_dir: Path) -> list[list[str]]:
    """The command that trains, or goes on; ``scores`` then reads its log."""
    settings = [f'{name}={value}'.replace(' ', '') for name, value in options.items()]
    return [['tools/train.py', config, '--work-dir', str(work_dir), '--resume', 'auto',
             '--cfg-options', *settings]]


def read_log(work_dir: Path, score: str) -> dict:
    """The last line of the run's JSON logs that holds ``score``.

    Raises:
        ValueError: there is none.
    """
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    lines = [line for line in lines if score in line]
    if not lines:
        raise ValueError(f'the logs in {work_dir} hold no {score}; the same command runs it anew')
    return lines[-1]


def numbered(**scores: float) -> dict[str, str]:
    return {name: f'{value:.4f}' for name, value in scores.items()}


# ------------------------------------------------------------------------------------ the CSV
def read_rows(study: ModuleType) -> list[dict]:
    """The rows of the study's CSV so far.

    Raises:
        ValueError: for a file with other columns or a torn line.
    """
    if not Path(study.CSV).exists():
        return []
    text = Path(study.CSV).read_text()
    reader = csv.DictReader(io.StringIO(text))
    rows = list(reader)
    if tuple(reader.fieldnames or ()) != columns(study):
        raise ValueError(f'{study.CSV} has the columns {reader.fieldnames}, not {columns(study)}')
    for line, row in enumerate(rows, 2):
        last = line == len(rows) + 1 and not text.endswith('\n')
        if None in row or None in row.values() or last:
            raise ValueError(f'{study.CSV}: line {line} is not whole; delete it to run it again')
    return rows


def append_rows(study: ModuleType, rows: list[dict]) -> None:
    """In one write, so that two processes can share the file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(study), lineterminator='\n', restval='')
    if not Path(study.CSV).exists():
        writer.writeheader()
    writer.writerows(rows)
    with open(study.CSV, 'a', newline='') as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())


def columns(study: ModuleType) -> tuple[str, ...]:
    return ('run', *study.COLUMNS, *RECORD)


@functools.cache
def place() -> dict:
    """Which code on which machine."""
    def first_line(*command):
        run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
        return run.stdout.strip() or 'unknown'

    return dict(
        commit=first_line('git', 'describe', '--always', '--dirty'),
        machine=first_line(sys.executable, 'benchmarks/machine.py'),
    )


# ---------------------------------------------------------------------------------- the runs
def carry_out(run: Run, work_dir: Path) -> list[dict]:
    """Run the commands; -> the rows of the CSV.

    Raises:
        ChildProcessError: a command failed; the message names its log.
    """
    start = time.time()
    if (work_dir / FINISHED).exists():  # of rows that were deleted, or of scores that lack
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    note, scores = '', [{}]
    with open(work_dir / 'output.log', 'a') as log:
        for command in run.commands(work_dir):
            python = [sys.executable, *command]
            code = subprocess.call(python, stdout=log, stderr=log, env=ENVIRONMENT)
            if code and any(work_dir.glob('**/nonfinite_loss*.json')):
                note = NOT_FINITE
            elif code:
                raise ChildProcessError(f'{" ".join(command)} failed; see {log.name}')
    (work_dir / FINISHED).touch()
    if not note:
        scores = run.scores(work_dir)
    common = dict(
        run.keys,
        run=run.name,
        note=note,
        minutes=f'{(time.time() - start) / 60:.1f}',
        date=time.strftime('%Y-%m-%d'),
        **place(),
    )
    return [{**common, **row} for row in scores]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run a study, or go on with it')
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--list', action='store_true', help='only say what has run')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        help='start nothing new after so long')
    parser.add_argument('--part', default='1/1', metavar='I/N',
                        help='the I-th of N processes that share the list')
    parser.add_argument('--only', default='', metavar='TEXT', help='runs with this in their name')
    args = parser.parse_args()
    part = re.fullmatch(r'([1-9]\d*)/([1-9]\d*)', args.part)
    if not part or int(part[1]) > int(part[2]):
        parser.error(f'--part {args.part}: expected I/N with I from 1 to N, such as 1/2')
    args.part = int(part[1]), int(part[2])
    return args


def main() -> None:
    args = parse_args()
    start = time.time()
    study = importlib.import_module(args.study)
    runs = [run for run in study.runs() if args.only in run.name]
    try:
        done = {row['run'] for row in read_rows(study)}
    except ValueError as error:
        raise SystemExit(f'study: {error}') from None
    if args.list:
        for run in runs:
            print(f'{"done" if run.name in done else "not yet run":12} {run.name}')
        return
    for command in study.PREPARE:
        subprocess.check_call([sys.executable, *command])
    i, n = args.part
    for k, run in enumerate(runs, 1):
        if run.name in done or k % n != i % n:
            continue
        if time.time() - start > 60 * args.minutes:
            print(f'{args.minutes:g} minutes are over; the same command goes on')
            return
        print(f'{k}/{len(runs)} {run.name} ... ', end='', flush=True)
        try:
            rows = carry_out(run, Path('work_dirs/study', args.study, run.name))
        except (ChildProcessError, ValueError) as error:
            raise SystemExit(f'\nstudy: {error}') from None
        append_rows(study, rows)
        subprocess.check_call([sys.executable, 'studies/report.py'])
        print(', '.join(row['note'] or row['psnr'] for row in rows), flush=True)
    print(f'all of this part has run: {study.CSV}')


if __name__ == '__main__':
    main()
