"""What ``setup_env.py`` shows and records: commands run into a log file, one line on the screen.

Like ``setup_env.py`` only the standard library, and no syntax newer than Python 3.6.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

# pip's last words on a network that is down or that breaks off in the middle
NO_NETWORK = r'Retrying \(Retry\(total=0|ReadTimeoutError|IncompleteRead|Connection(Reset|Error)'


class SetupError(Exception):
    """What stopped the set-up, in words for the person at the keyboard."""


class SetupLog:
    """A log file, and a line for every step: rewritten on a terminal, else every 30 seconds."""

    def __init__(self, path):
        self.path = path
        self.title, self.started, self.shown = '', 0, 0

    def start(self, title):
        """Begin the line of a step."""
        self.title, self.started, self.shown = title, time.monotonic(), 0
        if not sys.stdout.isatty():
            print(title, flush=True)

    def show(self, text, last=False):
        """Show ``text`` after the time since the start of the step."""
        elapsed = time.monotonic() - self.started
        line = f'{self.title} {clock(elapsed)}  {text}'[: shutil.get_terminal_size().columns - 1]
        if sys.stdout.isatty():
            print('\r\x1b[K' + line, end='\n' if last else '', flush=True)
        elif last or elapsed - self.shown >= 30:
            self.shown = elapsed
            print(line, flush=True)

    def run(self, command, folder, env, progress=None):
        """Run ``command`` with its output in the file; raise a SetupError where it fails."""
        begin = self.path.stat().st_size if self.path.exists() else 0
        with self.path.open('a') as file:
            print('\n$', *command, file=file, flush=True)
            # The caller's lock travels along (close_fds): where the set-up is killed outright, the
            # next one waits for what it left running instead of working beside it.
            process = subprocess.Popen(
                command,
                cwd=str(folder),
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
                close_fds=False,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    self.show(progress() if progress else self.last_line(begin))
                    time.sleep(0.2)
            except BaseException:  # Ctrl-C or a signal: take pip and the compilers down too
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
        if process.returncode:
            raise SetupError(self.explain(begin))

    def since(self, begin):
        """The text of the file from byte ``begin`` on."""
        with self.path.open('rb') as file:
            file.seek(begin)
            return file.read().decode(errors='replace')

    def last_line(self, begin):
        """The newest line that says something."""
        lines = (line.strip() for line in reversed(self.since(begin).split('\n')))
        return next(filter(None, lines), '')

    def explain(self, begin):
        """Why the command that began at ``begin`` failed."""
        output = self.since(begin)
        if re.search(NO_NETWORK, output):
            return (
                'The package index cannot be reached. Check the network (pip obeys HTTPS_PROXY '
                f'and PIP_INDEX_URL),\nthen run the same command again. Details: {self.path}'
            )
        tail = '\n'.join(f'    {line}' for line in output.rstrip().splitlines()[-15:])
        return f'This failed (all of it is in {self.path}):\n{tail}'


def clock(seconds):
    """``'3:07'``."""
    return '{}:{:02d}'.format(*divmod(int(seconds), 60))
