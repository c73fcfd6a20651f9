"""Run what a study lists, one small run after the other, and append what comes out to its CSV.

    python studies/study.py                           go on where it stopped: make study
    python studies/study.py pretraining --list        what has run and what has not
    python studies/study.py --minutes 60 --part 1/2   an hour, every second run

A run that is interrupted goes on from its last checkpoint; one whose rows are in the CSV is not run
again: delete its rows, and it starts anew. A loss that is not finite is a result: the row says so.
After every run studies/report.py writes the tables of docs/results.md from the CSV.
"""

import argparse
import csv
import fcntl
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TextIO

STUDIES = ('reconstruction', 'pretraining', 'detection')
# Written beside what the study itself measures.
RECORD = ('note', 'minutes', 'date', 'commit', 'machine')
NOT_FINITE = 'loss not finite'
NOT_RUN = 'not yet run'
# One thread of the CPU: the same sums whatever the machine has, and --part for its other cores.
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
FINISHED = 'finished'  # a file in a work directory whose rows are in the CSV


@dataclass(frozen=True)
class Step:
    """One command of a run.

    command: a script of this project and its arguments.
    out: the folder or file that it writes, and goes on from when it was interrupted.
    scores: rows of the CSV, read from ``out``; ValueError where it does not hold them.
    """

    command: list[str]
    out: Path
    scores: Callable[[Path], list[dict]]


@dataclass(frozen=True)
class Run:
    """One entry of a study.

    keys: which run it is, columns of the CSV.
    steps: work directory -> its commands, one after the other.
    """

    keys: dict
    steps: Callable[[Path], list[Step]]

    @property
    def name(self) -> str:
        """Of the work directory, and in the CSV."""
        return re.sub(r'[^a-z0-9]+', '-', ' '.join(map(str, self.keys.values())).lower()).strip('-')


def train(
    config: str,
    options: dict,
    out: Path,
    *switches: str,
    scores: Callable[[Path], list[dict]] = lambda out: [],
) -> Step:
    """Train, or go on."""
    settings = [f'{name}={value}'.replace(' ', '') for name, value in options.items()]
    command = [
        'tools/train.py',
        config,
        '--work-dir',
        str(out),
        '--resume',
        'auto',
        *switches,
        '--cfg-options',
        *settings,
    ]
    return Step(command, out, scores)


def read_log(work_dir: Path, score: str) -> dict:
    """The last line of a run's JSON logs that holds ``score``.

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
    """Whole, though other processes append to the same file."""
    with open(study.CSV, 'a', newline='') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, columns(study), lineterminator='\n', restval='')
        if not os.fstat(file.fileno()).st_size:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def columns(study: ModuleType) -> tuple[str, ...]:
    return ('run', *study.COLUMNS, *RECORD)


def place() -> dict:
    """Which code on which machine."""

    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT).stdout

    # What the study itself writes does not make the code another.
    code = ('--', '.', ':!studies/*.csv', ':!docs/results.md', ':!docs/*.png')
    changed = output('git', 'status', '--porcelain', '--untracked-files=no', *code)
    commit = output('git', 'describe', '--always').strip() or 'unknown'
    return dict(
        commit=f'{commit}-dirty' if changed else commit,
        machine=output(sys.executable, 'benchmarks/machine.py').strip() or 'unknown',
    )


# ---------------------------------------------------------------------------------- the runs
def carry_out(run: Run, work_dir: Path) -> list[dict]:
    """Do the steps that were not done before; -> the rows of the CSV.

    Raises:
        ChildProcessError: a command failed; the message names its log.
        ValueError: a command ended well without its scores; the next start runs it anew.
    """
    if (work_dir / FINISHED).exists():  # of rows that were deleted
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    rows, where = [], place()
    for k, step in enumerate(run.steps(work_dir), 1):
        done = work_dir / f'step_{k}.json'
        if not done.exists():
            with timed(work_dir / 'seconds'):
                found = carry_out_step(step, work_dir / 'output.log')
            done.write_text(json.dumps(found))
        rows += json.loads(done.read_text())
        if rows and rows[-1].get('note'):  # what comes next would begin with this one's weights
            break
    minutes = float((work_dir / 'seconds').read_text()) / 60
    common = dict(
        run.keys, run=run.name, minutes=f'{minutes:.1f}', date=time.strftime('%Y-%m-%d'), **where
    )
    return [{**common, **row} for row in rows]


def carry_out_step(step: Step, log: Path) -> list[dict]:
    """Run the command; -> its rows, or one whose note says that a loss was not finite."""
    with open(log, 'a') as output:
        code = call([sys.executable, *step.command], output)
    if code and any(step.out.glob('**/nonfinite_loss*.json')):
        return [dict(note=NOT_FINITE)]
    if code:
        raise ChildProcessError(f'{" ".join(step.command)} ended with {code}; see {log}')
    try:
        return step.scores(step.out)
    except (OSError, ValueError):  # as when it was killed after its last checkpoint
        shutil.rmtree(step.out, ignore_errors=True)
        raise


def call(command: list[str], output: TextIO) -> int:
    """Run a command; -> its exit status. Ctrl-C ends both, the command once it has saved."""
    process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise SystemExit('\nstudy: interrupted; the same command goes on') from None


@contextmanager
def timed(file: Path) -> Iterator[None]:
    """Add the seconds that pass to the number in ``file``."""
    start = time.time()
    try:
        yield
    finally:
        before = float(file.read_text()) if file.exists() else 0.0
        file.write_text(str(before + time.time() - start))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run the studies, or go on with them')
    parser.add_argument(
        'studies', nargs='*', metavar='STUDY', help=f'of {", ".join(STUDIES)}; default: all'
    )
    parser.add_argument('--list', action='store_true', help='only say what has run')
    parser.add_argument(
        '--minutes', type=float, default=float('inf'), help='start nothing new after so long'
    )
    parser.add_argument(
        '--part', default='1/1', metavar='I/N', help='the I-th of N processes that share the list'
    )
    parser.add_argument('--only', default='', metavar='TEXT', help='runs with this in their name')
    args = parser.parse_args()
    for name in args.studies:
        if name not in STUDIES:
            parser.error(f'there is no study {name}; expected one of {", ".join(STUDIES)}')
    part = re.fullmatch(r'([1-9]\d*)/([1-9]\d*)', args.part)
    if not part or int(part[1]) > int(part[2]):
        parser.error(f'--part {args.part}: expected I/N with I from 1 to N, such as 1/2')
    args.part = int(part[1]), int(part[2])
    return args


def main() -> None:
    args = parse_args()
    args.end = time.time() + 60 * args.minutes
    try:
        for name in args.studies or STUDIES:
            study = importlib.import_module(name)
            list_runs(study, args) if args.list else go_on(study, args)
    except (ChildProcessError, subprocess.CalledProcessError, ValueError) as error:
        raise SystemExit(f'\nstudy: {error}') from None


def list_runs(study: ModuleType, args: argparse.Namespace) -> None:
    done = {row['run'] for row in read_rows(study)}
    for run in study.runs():
        if args.only in run.name:
            print(f'{"done" if run.name in done else NOT_RUN:12} {run.name}')


def go_on(study: ModuleType, args: argparse.Namespace) -> None:
    """Carry out what this process has to do of a study, until the time is over."""
    done = {row['run'] for row in read_rows(study)}
    runs = [run for run in study.runs() if args.only in run.name]
    i, n = args.part
    mine = {k: run for k, run in enumerate(runs, 1) if run.name not in done and k % n == i % n}
    for command in study.PREPARE if mine else ():
        subprocess.check_call([sys.executable, *command])
    for k, run in mine.items():
        if time.time() > args.end:
            print(f'{args.minutes:g} minutes are over; the same command goes on')
            return
        print(f'{k}/{len(runs)} {run.name} ... ', end='', flush=True)
        work_dir = Path('work_dirs/study', study.__name__, run.name)
        rows = carry_out(run, work_dir)
        append_rows(study, rows)
        (work_dir / FINISHED).touch()
        subprocess.check_call([sys.executable, 'studies/report.py'])
        print(', '.join(row.get('note') or row[study.SCORE] for row in rows), flush=True)
    print(f'all of this part has run: {study.CSV}')


if __name__ == '__main__':
    main()
