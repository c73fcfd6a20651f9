"""A SLURM cluster for the tests: two nodes on this machine, own ports, all files in one folder.

A cluster that this machine belongs to is not touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'srun', 'sbatch', 'scancel', 'scontrol')
PORTS = dict(slurmctld=26817, n1=26818, n2=26819)

# Each node has four CPUs by configuration. No cgroups, no accounting. A requeued job starts again
# after cred_expire seconds (default 120).
CONFIG = """
ClusterName=finola_tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=30
InactiveLimit=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n1]} {size}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n2]} {size}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=n1,n2 State=UP PriorityTier=2
"""
SIZE = 'CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 State=UNKNOWN'


def obstacle() -> str | None:
    """Return why the cluster cannot start on this machine, or None."""
    if os.geteuid() != 0:
        return 'its daemons need root'
    missing = [name for name in PROGRAMS if not _find(name)]
    if missing:
        return (
            f'{", ".join(missing)} not found: apt-get install slurmctld slurmd slurm-client munge'
        )
    if Path('/etc/slurm/slurm.conf').exists():
        return 'this machine belongs to a SLURM cluster (/etc/slurm/slurm.conf)'
    for port in PORTS.values():
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(('127.0.0.1', port))
            except OSError:
                return f'its port {port} is taken'
    return None


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/sbin')


class Cluster:
    """A context manager; ``env`` is the environment of its commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / 'slurm.conf'
        inherited = {key: value for key, value in os.environ.items() if 'SLURM' not in key}
        self.env = {**inherited, 'SLURM_CONF': str(self.config), 'OMP_NUM_THREADS': '1'}
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for name in ('state', 'spool.n1', 'spool.n2'):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition('.')[0]
        text = CONFIG.format(host=host, folder=self.folder, ports=PORTS, size=SIZE)
        self.config.write_text(text)
        # This plugin works without cgroups if no other plugin uses them.
        (self.folder / 'cgroup.conf').write_text('CgroupPlugin=cgroup/v1\n')
        key = self.folder / 'munge.key'
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [
            f'--{name.replace("_", "-")}={self.folder}/munge.{name}'
            for name in ('socket', 'key_file', 'pid_file', 'log_file', 'seed_file')
        ]
        files[1] = f'--key-file={key}'
        self._launch('munged', '--foreground', '--force', *files)
        self.wait_until(lambda: Path(self.folder, 'munge.socket').exists(), 'munged')
        self._launch('slurmctld', '-D', '-i', '-f', str(self.config))
        for node in ('n1', 'n2'):
            self._launch('slurmd', '-D', '-N', node, '-f', str(self.config))
        self.wait_until(
            lambda: self.run('sinfo', '-h', '-t', 'idle', '-o', '%D').strip() == '2', 'the nodes'
        )

    def _launch(self, program: str, *args: str) -> None:
        with open(self.folder / 'daemons.log', 'ab') as log:
            self.daemons.append(
                subprocess.Popen(
                    [_find(program), *args],
                    env=self.env,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def wait_until(self, ready, what: str) -> None:
        """Wait for ``ready()``; after a minute, raise an error that names ``what``."""
        deadline = time.monotonic() + 60
        while not ready():
            if time.monotonic() > deadline:
                logs = [file.read_text()[-1000:] for file in self.folder.glob('*.log')]
                raise TimeoutError(f'{what} did not come up:\n' + '\n'.join(logs))
            time.sleep(0.2)

    def run(self, *command: str, env: dict[str, str] | None = None, expect: int | None = 0) -> str:
        """Run a command on this cluster; return its stdout and stderr."""
        result = subprocess.run(
            [str(part) for part in command],
            env={**self.env, **(env or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        if expect is not None:
            assert result.returncode == expect, (result.returncode, result.stdout[-4000:])
        return result.stdout

    def state(self, job: str) -> dict[str, str]:
        """Return the fields of ``scontrol show job``."""
        said = self.run('scontrol', 'show', 'job', job, '--oneliner')
        return dict(pair.split('=', 1) for pair in said.split() if '=' in pair)

    def wait_for(self, job: str, *states: str) -> dict[str, str]:
        """Wait until the job is in one of these states; return its fields."""
        deadline = time.monotonic() + 240
        while (found := self.state(job))['JobState'] not in states:
            assert time.monotonic() < deadline, found
            time.sleep(0.5)
        return found

    def __exit__(self, *_):
        """Cancel jobs first: their slurmstepd processes outlive slurmd."""
        with suppress(subprocess.SubprocessError, AssertionError):
            self.run('scancel', '--full', '--user=root', expect=None)
            deadline = time.monotonic() + 40
            while self.run('squeue', '-h', expect=None).strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
