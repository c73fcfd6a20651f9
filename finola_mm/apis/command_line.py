"""Shared helpers for command-line tools: arguments, errors, output files and progress."""

import argparse
import csv
import functools
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from rich.console import Console
from rich.progress import track
from torch.distributed.elastic.multiprocessing.errors import record

from ..engine import NO_SPACE, atomic_write, register_checkpoint_io
from ..environment import NO_CUDA_OPERATOR, build_mmcv, pinned, preferred
from ..errors import UserError
from .config import CfgOptions

# Modules that only some tools and configs need -> what pip installs for them
OPTIONAL = dict(mmdet=pinned(preferred('mmdet')), skimage='scikit-image')
OPTIONAL |= dict.fromkeys(('onnx', 'onnxruntime', 'onnxscript'), 'onnx onnxruntime onnxscript')
OPTIONAL |= dict(faster_coco_eval='faster-coco-eval', timm='timm')
OPTIONAL |= dict(huggingface_hub='huggingface_hub', supervision='supervision')
OPTIONAL |= dict.fromkeys(
    ('openvino', 'ncnn', 'pnnx', 'coremltools'), 'openvino pnnx ncnn coremltools'
)
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def command_line(main: Callable) -> Callable:
    """Decorate the ``main`` of a tool.

    On a ``UserError``, a full disk, a missing module of ``OPTIONAL``, a missing CUDA operator of
    mmcv or text that is not UTF-8, the tool prints one line, ``tool: message``, and exits with
    status 1. File names may be in another encoding; they are printed with escapes. Ctrl-C exits
    with status 130. Any other exception produces a traceback. Under torchrun, torch reports the
    error of the first failing rank (``record``).
    """
    tool = Path(inspect.getfile(main)).stem

    @functools.wraps(main)
    def run(*args):
        register_checkpoint_io()
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
            sys.stdout.reconfigure(errors='backslashreplace')
        try:
            return record(main)(*args)
        except UserError as error:
            raise SystemExit(f'{tool}: {error}') from None
        except ImportError as error:
            if any("'mmcv._ext'" in text for text in _messages(error)):
                raise SystemExit(
                    f'{tool}: detection requires the compiled ops of mmcv, which is installed '
                    f'without them; to compile them, run: {" && ".join(build_mmcv())}'
                ) from None
            text = ' '.join(_messages(error))
            missing = [name for name in OPTIONAL if name in text and not find_spec(name)]
            if not missing:
                raise
            raise SystemExit(
                f'{tool}: {missing[0]} is not installed; run: '
                f'python -m pip install {OPTIONAL[missing[0]]}'
            ) from None
        except RuntimeError as error:
            if NO_CUDA_OPERATOR not in str(error):
                raise
            raise SystemExit(
                f"{tool}: mmcv's operator {str(error).strip()} To compile its CUDA operators, "
                f"install a CUDA toolkit of torch's CUDA version and run: "
                f'{" && ".join(build_mmcv(cuda=True))}'
            ) from None
        except (UnicodeEncodeError, UnicodeDecodeError) as error:
            around = error.object[max(error.start - 30, 0) : error.end + 30]
            raise SystemExit(
                f'{tool}: {around!r} is not UTF-8; rename or convert the file'
            ) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise SystemExit(
                f'{tool}: no space left to write {error.filename or "a file"}; free space and run '
                'the command again (tools/train.py: with --resume)'
            ) from None

    return run


def _messages(error: BaseException | None) -> Iterator[str]:
    """Yield the messages of an error and of its causes; MMEngine replaces those of imports."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def add_config_and_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file, or the name of one, such as photos/finola')
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, work directory (its last one), or name of published weights',
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='config settings to override, key=value; nested: a.b=1; lists: a="[1,2]"; text that '
        'looks like a number or a list: a="\'1\'"',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options shared by training and testing."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='default: none')
    parser.add_argument('--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def int_range(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argparse ``type`` for integers from ``least`` to ``most``."""
    expected = f'at least {least}' if most is None else f'from {least} to {most}'

    def convert(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f'must be {expected}, got {text}')
        return value

    convert.__name__ = 'int'  # argparse says "invalid int value"
    return convert


def check_out(path: str | Path, suffixes: Sequence[str] = (), *, overwrite: bool = True) -> Path:
    """Check the path of an output file before the work starts, and create its folder."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f'the output file name must end in {" or ".join(suffixes)}, got {path}')
    exists = os.path.lexists(path)  # False for a name that is too long
    if exists and not overwrite:
        raise UserError(f'the output file {path} already exists; delete it or choose another name')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open('ab').close()
        if not exists:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot write the output file {path} ({error.strerror}); choose another one'
        ) from None
    return path


def make_folder(path: str | Path) -> Path:
    """Create an output folder and its parents if they do not exist; check that it is writable."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f'cannot write to the folder {path} ({error.strerror})') from error
    return Path(path)


def claim_folder(
    folder: Path,
    stamp: str,
    request: dict,
    *,
    extends: Callable[[dict, dict], bool] = lambda made, request: False,
) -> bool:
    """Reserve ``folder`` for the results of ``request``; return whether they are complete.

    The file ``stamp`` in the folder records the request. A folder that holds anything else, or the
    results of another request, is left unchanged.

    extends: (recorded request, request) -> whether the results may be added to the recorded ones.
    """
    if (folder / stamp).is_file():
        record = json.loads((folder / stamp).read_text())
        made = record.get('request', record)
        if made == request:
            return record.get('complete', False)
        if not extends(made, request):
            raise UserError(
                f'{folder} holds results for other arguments: {stamp} records {made}, expected '
                f'{request}. Choose another output folder, or delete this one'
            )
    elif folder.is_dir() and any(not p.name.startswith(f'.{stamp}.') for p in folder.iterdir()):
        raise UserError(
            f'the output folder {folder} must be new or empty, but holds other files. Nothing was '
            'written; choose another output folder'
        )
    write_stamp(folder, stamp, request, complete=False)
    return False


def write_stamp(folder: Path, stamp: str, request: dict, *, complete: bool) -> None:
    """Record the request of a folder, and whether its results are complete."""
    content = json.dumps({'request': request, 'complete': complete}, separators=(',', ':'))
    atomic_write(make_folder(folder) / stamp, content.encode())


def write_csv(path: str | Path, rows: Sequence[dict], fields: Sequence[str] = ()) -> None:
    """Write rows with six significant digits; pass ``fields`` if ``rows`` may be empty."""
    with open(path, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        writer = csv.DictWriter(file, fields or rows[0], lineterminator='\n')
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f'{v:.6g}' if isinstance(v, float) else v for k, v in row.items()})


def progress(steps: Iterable, title: str, total: float | None = None) -> Iterable:
    """Iterate with a progress bar on standard error; standard output holds only the results."""
    return track(steps, title, total, console=Console(stderr=True))
