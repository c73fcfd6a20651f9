"""Run the small trainings of the studies and append their scores to committed CSV files.

    python studies/study.py                           start or resume all studies (make study)
    python studies/study.py pretraining --list        list finished and remaining runs
    python studies/study.py --minutes 60 --part 1/2   every second run, for an hour

An interrupted run resumes from its last checkpoint. A run with rows in the CSV is finished; delete
its rows to repeat it. A loss that is not finite is recorded as a result. After each run
studies/report.py updates the tables of docs/results.md.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TextIO

STUDIES = (
    'reconstruction',
    'latents',
    'pretraining',
    'detection',
    'encoders',
    'encoder_detection',
)
GPU_STUDIES = ('latents_gpu',)  # run by name only
# Columns of every CSV, after those of the study.
RECORD = ('note', 'minutes', 'date', 'commit', 'machine')
NOT_FINITE = 'loss not finite'
NOT_RUN = 'not yet run'
# glibc: keep freed memory, which makes training on a CPU faster (docs/scale.md).
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '4294967296', 'MALLOC_TRIM_THRESHOLD_': '8589934592'}
# One thread of the CPU: the same sums whatever the machine has, and --part for its other cores.
ENVIRONMENT = {**MALLOC, **os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
FINISHED = 'finished'  # a file in a work directory whose rows are in the CSV


@dataclass(frozen=True)
class Step:
    """One command of a run.

    command: a script of this project and its arguments.
    out: the folder or file that the command writes and resumes from.
    scores: reads the rows of the CSV from ``out``; raises ValueError if there are none.
    """

    command: list[str]
    out: Path
    scores: Callable[[Path], list[dict]]


@dataclass(frozen=True)
class Run:
    """One entry of a study.

    keys: columns of the CSV that identify the run.
    steps: work directory -> commands, in order of execution; a generator can read what earlier
        ones wrote.
    """

    keys: dict
    steps: Callable[[Path], Iterable[Step]]

    @property
    def name(self) -> str:
        """Name of the work directory, and of the run in the CSV."""
        return re.sub(r'[^a-z0-9]+', '-', ' '.join(map(str, self.keys.values())).lower()).strip('-')


def train(
    config: str,
    options: dict,
    out: Path,
    *flags: str,
    scores: Callable[[Path], list[dict]] = lambda out: [],
) -> Step:
    """Train, or resume training."""
    settings = [f'{name}={value}'.replace(' ', '') for name, value in options.items()]
    command = [
        'tools/train.py',
        config,
        '--work-dir',
        str(out),
        '--resume',
        'auto',
        *flags,
        '--cfg-options',
        *settings,
    ]
    return Step(command, out, scores)


def read_log(work_dir: Path, score: str) -> dict:
    """Return the last line with ``score`` of the JSON logs in ``work_dir``.

    Raises:
        ValueError: no line holds the score.
    """
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    lines = [line for line in lines if score in line]
    if not lines:
        raise ValueError(f'the logs in {work_dir} have no {score}; repeat the same command')
    return lines[-1]


def format_scores(**scores: float) -> dict[str, str]:
    return {name: f'{value:.4f}' for name, value in scores.items()}


# ------------------------------------------------------------------------------------ the CSV
def read_rows(study: ModuleType) -> list[dict]:
    """Read the CSV of a study.

    Raises:
        ValueError: the file has other columns or a truncated line.
    """
    if not Path(study.CSV).exists():
        return []
    text = Path(study.CSV).read_text()
    reader = csv.DictReader(io.StringIO(text))
    rows = list(reader)
    if tuple(reader.fieldnames or ()) != columns(study):
        raise ValueError(
            f'{study.CSV} has the columns {reader.fieldnames}; expected {columns(study)}'
        )
    for line, row in enumerate(rows, 2):
        last = line == len(rows) + 1 and not text.endswith('\n')
        if None in row or None in row.values() or last:
            raise ValueError(f'{study.CSV}: line {line} is truncated; delete it to repeat its run')
    return rows


def append_rows(study: ModuleType, rows: list[dict]) -> None:
    """Append rows to the CSV, locked against other processes of the same study."""
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


def environment_info() -> dict:
    """Return the commit of the code and the name of the machine."""

    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT).stdout

    # Files that the study itself writes do not count as changes.
    code = ('--', '.', ':!studies/*.csv', ':!docs/results.md', ':!docs/*.png')
    changed = output('git', 'status', '--porcelain', '--untracked-files=no', *code)
    commit = output('git', 'describe', '--always').strip() or 'unknown'
    return dict(
        commit=f'{commit}-dirty' if changed else commit,
        machine=output(sys.executable, 'benchmarks/machine.py').strip() or 'unknown',
    )


# ---------------------------------------------------------------------------------- the runs
def run_all(run: Run, work_dir: Path) -> list[dict]:
    """Run the remaining steps of a run and return its rows of the CSV.

    Raises:
        ChildProcessError: a command failed; the message names its log.
        ValueError: a command succeeded without writing its scores; the next start repeats it.
    """
    if (work_dir / FINISHED).exists():  # its rows were deleted
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    rows, info = [], environment_info()
    for k, step in enumerate(run.steps(work_dir), 1):
        done = work_dir / f'step_{k}.json'
        if not done.exists():
            with timed(work_dir / 'seconds'):
                found = run_step(step, work_dir / 'output.log')
            done.write_text(json.dumps(found))
        rows += json.loads(done.read_text())
        if rows and rows[-1].get('note'):  # later steps would start from these weights
            break
    minutes = float((work_dir / 'seconds').read_text()) / 60
    common = dict(
        run.keys, run=run.name, minutes=f'{minutes:.1f}', date=time.strftime('%Y-%m-%d'), **info
    )
    return [{**common, **row} for row in rows]


def run_step(step: Step, log: Path) -> list[dict]:
    """Run a command and return its rows, or one row with a note if the loss was not finite."""
    with open(log, 'a') as output:
        code = call([sys.executable, *step.command], output)
    if code and any(step.out.glob('**/nonfinite_loss*.json')):
        return [dict(note=NOT_FINITE)]
    if code:
        raise ChildProcessError(f'{" ".join(step.command)} failed with status {code}; see {log}')
    try:
        return step.scores(step.out)
    except (OSError, ValueError):  # e.g. killed between last checkpoint and validation
        shutil.rmtree(step.out, ignore_errors=True)
        raise


def call(command: list[str], output: TextIO) -> int:
    """Run a command and return its exit status; on Ctrl-C, let it save, then exit."""
    process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise SystemExit('\nstudy: interrupted; resume with the same command') from None


@contextmanager
def timed(file: Path) -> Iterator[None]:
    """Add the elapsed seconds to the number in ``file``."""
    start = time.time()
    try:
        yield
    finally:
        before = float(file.read_text()) if file.exists() else 0.0
        file.write_text(str(before + time.time() - start))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run or resume the studies')
    parser.add_argument(
        'studies',
        nargs='*',
        metavar='STUDY',
        help=f'of {", ".join(STUDIES + GPU_STUDIES)}; default: all for a CPU',
    )
    parser.add_argument('--list', action='store_true', help='only list finished and remaining runs')
    parser.add_argument(
        '--minutes', type=float, default=float('inf'), help='start no run after this time'
    )
    parser.add_argument(
        '--part', default='1/1', metavar='I/N', help='run the I-th of N shares of the list'
    )
    parser.add_argument(
        '--only', default='', metavar='TEXT', help='only runs whose name contains TEXT'
    )
    args = parser.parse_args()
    for name in args.studies:
        if name not in STUDIES + GPU_STUDIES:
            known = ', '.join(STUDIES + GPU_STUDIES)
            parser.error(f'unknown study {name}; expected one of {known}')
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
            gpus = os.environ.get('CUDA_VISIBLE_DEVICES', '0') if name in GPU_STUDIES else ''
            ENVIRONMENT['CUDA_VISIBLE_DEVICES'] = gpus
            list_runs(study, args) if args.list else resume_study(study, args)
    except (ChildProcessError, subprocess.CalledProcessError, ValueError) as error:
        raise SystemExit(f'\nstudy: {error}') from None


def list_runs(study: ModuleType, args: argparse.Namespace) -> None:
    done = {row['run'] for row in read_rows(study)}
    for run in study.runs():
        if args.only in run.name:
            print(f'{"done" if run.name in done else NOT_RUN:12} {run.name}')


def resume_study(study: ModuleType, args: argparse.Namespace) -> None:
    """Run the remaining runs of this process until the time limit."""
    done = {row['run'] for row in read_rows(study)}
    runs = [run for run in study.runs() if args.only in run.name]
    i, n = args.part
    mine = {k: run for k, run in enumerate(runs, 1) if run.name not in done and k % n == i % n}
    for command in study.PREPARE if mine else ():
        subprocess.check_call([sys.executable, *command])
    for k, run in mine.items():
        if time.time() > args.end:
            print(f'time limit of {args.minutes:g} minutes reached; resume with the same command')
            return
        print(f'{k}/{len(runs)} {run.name} ... ', end='', flush=True)
        work_dir = Path('work_dirs/study', study.__name__, run.name)
        rows = run_all(run, work_dir)
        append_rows(study, rows)
        (work_dir / FINISHED).touch()
        subprocess.check_call([sys.executable, 'studies/report.py'])
        print(', '.join(row.get('note') or row[study.SCORE] for row in rows), flush=True)
    print(f'all runs of this part are finished: {study.CSV}')


if __name__ == '__main__':
    main()
