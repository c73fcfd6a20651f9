"""The frame of every command-line tool: shared arguments, and how a failure is shown."""

import argparse
import functools
import inspect
from collections.abc import Callable
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from ..engine import register_checkpoint_io
from ..errors import UserError
from .config import CfgOptions

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def command_line(main: Callable) -> Callable:
    """Decorate the ``main`` of a tool.

    A ``UserError`` is printed as one line, ``tool: message``, with exit status 1; Ctrl-C gives
    status 130; every other exception is a traceback. Under torchrun, the first failing rank's error
    is reported by torch (``record``).
    """
    tool = Path(inspect.getfile(main)).stem

    @functools.wraps(main)
    def run(*args):
        register_checkpoint_io()
        try:
            return record(main)(*args)
        except UserError as error:
            raise SystemExit(f'{tool}: {error}') from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings of the config to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )


def add_work_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='default: none')
    parser.add_argument('--local-rank', type=int, default=0, help=argparse.SUPPRESS)
