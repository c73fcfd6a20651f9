"""Start ranks for dist_train.sh and dist_test.sh, in place of torchrun.

    tools/launch.py GPUS SCRIPT ARGUMENTS...

Differences from torchrun:

* After a signal, ranks may take as long as they need to save (torchrun kills them after 30 s).
  SIGHUP is forwarded as SIGTERM, or ignored under nohup. Ranks that hang are killed 10 s after a
  second Ctrl-C.
* The exit status is that of the first failing rank (torchrun: 1).
* Only the output of local rank 0 is printed. If another rank fails first, its error is printed at
  the end.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

HANDLED = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGALRM]
SENT_AS = {signal.SIGHUP: signal.SIGTERM, signal.SIGALRM: signal.SIGKILL}
PATIENCE = 10  # seconds from a second Ctrl-C to SIGKILL
interrupts: list[float] = []  # times of Ctrl-C


def torchrun_args(gpus: str, env=os.environ) -> list[str]:
    args = [f'--nproc-per-node={gpus}']
    if '--local-ranks-filter' in run.get_args_parser().format_help():  # torch 2.3
        args.append('--local-ranks-filter=0')
    elif int(gpus) > 1:  # the output of the other ranks goes to files
        args.append('--redirects=' + ','.join(f'{rank}:3' for rank in range(1, int(gpus))))
    if env.get('NNODES', '1') == '1':  # a free port, and no host name to resolve
        return [*args, '--standalone', '--local-addr=127.0.0.1']
    args += [f'--nnodes={env["NNODES"]}', f'--node-rank={env.get("NODE_RANK", "0")}']
    address, port = env.get('MASTER_ADDR', '127.0.0.1'), env.get('PORT', '29500')
    return [*args, f'--master-addr={address}', f'--master-port={port}']


def forward(number: int, frame) -> None:
    """Send a signal to all ranks of this machine."""
    ranks = Path('/proc/self/task', str(os.getpid()), 'children').read_text().split()
    for pid in ranks:
        os.kill(int(pid), SENT_AS.get(number, number))
    if not ranks:
        raise SystemExit(128 + number)
    if number == signal.SIGINT:
        interrupts.append(time.monotonic())
        if interrupts[-1] - interrupts[0] > 1:  # a rank that waits for another one runs no handler
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)


def order(failure: ProcessFailure) -> tuple[bool, float]:
    """Return a sort key: time of failure, with ranks terminated by torchrun last.

    The timestamps of torchrun are whole seconds.
    """
    file = Path(failure.error_file)
    failed_at = file.stat().st_mtime if file.is_file() else failure.timestamp
    return failure.exitcode == -signal.SIGTERM, failed_at


def report(failure: ProcessFailure) -> int:
    """Print an error that rank 0 has not printed; return the exit status."""
    said = None
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        said = f'terminated by {name}' + ' (possibly out of memory)' * (name == 'SIGKILL')
    elif failure.local_rank and isinstance(failure.message, dict):
        trace = failure.message['extraInfo']['py_callstack'].rstrip()
        said = trace.rpartition('\nfinola_mm.errors.')[2]  # a UserError without its traceback
    if said:
        print(f'launch: local rank {failure.local_rank}: {said}', file=sys.stderr)
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


def main() -> None:
    gpus, *command = sys.argv[1:]
    for number in HANDLED:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    logging.disable(logging.CRITICAL)
    args = run.parse_args([*torchrun_args(gpus), *command])
    args.signals_to_handle = 'SIGQUIT'  # this launcher handles the others
    try:
        run.run(args)
    except ChildFailedError as error:
        raise SystemExit(report(min(error.failures.values(), key=order))) from None


if __name__ == '__main__':
    main()
