"""torchrun for our scripts: the same arguments, and three things that it does otherwise.

    tools/launch/launch.py --standalone --nproc-per-node 2 tools/train.py CONFIG --launcher pytorch

Signals that ask a run to end are handed on, and the processes leave by themselves when they have
saved, however long that takes (torchrun kills them after 30 s); after a second Ctrl-C they have ten
seconds. A closed terminal is handed on as SIGTERM, and with `nohup` ignored. The exit code is that
of the process that failed first. What a failed process said stays the last thing on the screen.
"""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PATIENCE = 10  # seconds that the processes have after a second Ctrl-C
interrupted: list[float] = []  # when Ctrl-C was pressed


def hand_on(number: int, frame) -> None:
    """To every process that was started; each leads a session, so none has got it already."""
    if not send(signal.SIGTERM if number == signal.SIGHUP else number):
        raise SystemExit(128 + number)
    if number == signal.SIGINT:
        interrupted.append(time.monotonic())
        if interrupted[-1] - interrupted[0] > 1:
            # One that waits for another machine runs no handler.
            end = threading.Timer(PATIENCE, send, [signal.SIGKILL])
            end.daemon = True
            end.start()


def send(number: int) -> bool:
    """Whether there was a process to send the signal to."""
    started = Path('/proc/self/task', str(os.getpid()), 'children').read_text().split()
    for pid in started:
        os.kill(int(pid), number)
    return bool(started)


def first(failures: list[ProcessFailure]) -> ProcessFailure:
    """The cause: not one of those that torchrun ended because of another."""
    return min(
        failures, key=lambda failure: (failure.exitcode == -signal.SIGTERM, failure.timestamp)
    )


def main() -> None:
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup
    for number in SIGNALS if ignored else (*SIGNALS, signal.SIGHUP):
        signal.signal(number, hand_on)
    logging.disable(logging.CRITICAL)
    args = run.parse_args(sys.argv[1:])
    args.signals_to_handle = 'SIGQUIT'
    try:
        run.run(args)
    except ChildFailedError as error:
        failure = first(list(error.failures.values()))
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        name = signal.Signals(-failure.exitcode).name
        hint = ': is there enough memory?' if name == 'SIGKILL' else ''
        print(
            f'launch: process {failure.local_rank} of this machine was ended by {name}{hint}',
            file=sys.stderr,
        )
        raise SystemExit(128 - failure.exitcode) from None


if __name__ == '__main__':
    main()
