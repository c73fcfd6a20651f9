"""Write the tables of docs/results.md from the CSV files of the studies.

    python studies/report.py             rewrite the tables; studies/study.py calls it
    python studies/report.py --check     report whether they are up to date, write nothing

Only the text between the two markers of each study in docs/results.md is replaced.
"""

import argparse
import fcntl
import sys
from pathlib import Path

import detection
import detection_tables
import encoder_detection
import encoder_detection_tables
import encoders
import encoders_tables
import latents
import latents_tables
import pretraining
import pretraining_tables
import reconstruction
import reconstruction_tables
from study import read_rows

RESULTS = Path('docs/results.md')
MARKS = '<!-- studies/{} begins -->\n', '<!-- studies/{} ends -->\n'
TABLES = {
    reconstruction: reconstruction_tables.tables,
    latents: latents_tables.tables,
    pretraining: pretraining_tables.tables,
    detection: detection_tables.tables,
    encoders: encoders_tables.tables,
    encoder_detection: encoder_detection_tables.tables,
}


def between_marks(text: str, name: str, body: str) -> str:
    """Replace the text between the markers of a study by ``body``.

    Raises:
        ValueError: ``text`` does not contain both markers once each, in this order.
    """
    begin, end = (mark.format(name) for mark in MARKS)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(
            f'{RESULTS} must contain the lines {begin.strip()} and {end.strip()} once each'
        )
    head, tail = text.split(begin)[0], text.split(end)[1]
    return f'{head}{begin}{body}\n{end}{tail}'


def main() -> None:
    parser = argparse.ArgumentParser(description='Write the tables of docs/results.md')
    parser.add_argument(
        '--check', action='store_true', help='write nothing; fail if a table is out of date'
    )
    args = parser.parse_args()
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes may finish a run at the same time
        try:
            report(args.check)
        except ValueError as error:
            raise SystemExit(f'report: {error}') from None


def report(check: bool) -> None:
    text = new = RESULTS.read_text()
    for study, tables in TABLES.items():
        new = between_marks(new, study.__name__, '\n'.join(tables(read_rows(study))))
    if check and new != text:
        sys.exit(f'report: {RESULTS} is out of date; update it with python studies/report.py')
    if not check:
        written = RESULTS.with_suffix('.new')
        written.write_text(new)
        written.replace(RESULTS)
        pretraining_tables.draw(read_rows(pretraining))


if __name__ == '__main__':
    main()
