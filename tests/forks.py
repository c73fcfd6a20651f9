"""Processes that start with the host packages imported, and nothing of finola_mm.

To start Python and import mmpretrain and mmdet takes five seconds; to fork a process that has done
so, a tenth of one. All else is as in a process of its own: memory, arguments, output, status; but
see remembered.py.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['mmpretrain.apis', 'mmpretrain.models', 'mmdet.apis', 'tests.remembered']
)


def run_script(script, *args, expect: int = 0, **environ: str) -> str:
    """What a Python script prints in a process of its own, whose status has to be ``expect``.

    environ: variables of that process alone.
    """
    with tempfile.NamedTemporaryFile('r') as out:
        command = [str(script), *map(str, args)]
        process = CONTEXT.Process(
            target=_script, args=(command, os.getcwd(), {**os.environ, **environ}, out.name)
        )
        process.start()
        process.join(300)
        process.kill()  # does nothing to one that has ended
        text = out.read()
    assert process.exitcode == expect, f'status {process.exitcode}: {text[-6000:]}'
    return text


def _script(command: list[str], folder: str, environ: dict[str, str], out: str) -> None:
    """The new process: standard output and errors go to the file ``out``."""
    file = os.open(out, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    assert not any(name.startswith('finola_mm') for name in sys.modules)
    assert 'tests.remembered' in sys.modules, 'the first fork was not made in the checkout'
    sys.argv, sys.path[0] = command, str(Path(command[0]).resolve().parent)
    gc.freeze()  # or each collection would go through, and copy, what the processes share
    runpy.run_path(command[0], run_name='__main__')
