"""Run scripts in processes forked from one that has imported mmpretrain and mmdet.

Those imports take most of the time of a small run. Everything else is as in a new process: memory,
arguments, output, exit status. Nothing of finola_mm is imported before the fork.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmpretrain.apis', 'mmpretrain.models', 'mmdet.apis'])


def run_script(script, *args, expect: int = 0, **environ: str) -> str:
    """Run a Python script in a new process and return its output; check its exit status.

    environ: additional environment variables.
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
    """Run ``command`` in this process, with standard output and errors in the file ``out``."""
    file = os.open(out, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    assert not any(name.startswith('finola_mm') for name in sys.modules)
    assert 'mmdet.apis' in sys.modules, 'the imports of the fork server failed'
    sys.argv, sys.path[0] = command, str(Path(command[0]).resolve().parent)
    gc.freeze()  # keeps collections from copying the memory shared with the fork server
    runpy.run_path(command[0], run_name='__main__')
