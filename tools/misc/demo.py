"""The demo: make the data, pre-train the small encoder, test it, draw what it completes.

Before the training, images through one vector and classes out of a frozen encoder, both with the
weights in demo/. All are commands that a user could type; each is shown before it runs, its whole
output goes to work_dirs/demo/demo.log.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

CONFIG = 'configs/demo/masked_finola_b.py'
OUT = Path('work_dirs/demo')
# demo/README.md says how they were trained.
ONE_VECTOR = 'configs/study/reconstruction.py', 'demo/finola_shapes-8a2e96ea.safetensors'
ENCODER = 'configs/study/finola.py', 'demo/masked_finola_b_shapes-fc5a4b1a.safetensors'
QUIET = 'tools/train.py', 'tools/test.py', 'tools/analysis/knn.py'  # only their progress is shown
PROGRESS = re.compile(r'Iter\(train\) \[ *(\d+)/(\d+)\].*?eta: (\S+).*?loss: (\S+)')


def run(log, *command: str) -> None:
    """Run a Python script of the project; show its progress, keep its output in ``log``."""
    print('\n$ .venv/bin/python ' + ' '.join(command), flush=True)
    log.write(f'$ python {" ".join(command)}\n')
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        log.write(line)
        log.flush()
        if progress := PROGRESS.search(line):
            print('  step {}/{}   time left {}   loss {}'.format(*progress.groups()), flush=True)
        elif command[0] not in QUIET:
            print('  ' + line, end='', flush=True)
    if process.wait():
        raise SystemExit(f'demo: {command[0]} failed; its output is in {log.name}')


def run_test(log, config: str, checkpoint: str, out: Path) -> dict[str, float]:
    """Test; -> the metrics. Also writes the picture into ``out``."""
    run(log, 'tools/test.py', config, checkpoint, '--work-dir', str(out), '--out',
        f'{out}/metrics.json', '--show-dir', str(out))
    return json.loads((out / 'metrics.json').read_text())


def judge_encoder(log, config: str, encoder: str, out: Path) -> list[dict[str, list[float]]]:
    """kNN and linear accuracy (top-1, top-5) of the encoder untrained, and as it is."""
    run(log, 'tools/analysis/knn.py', config, encoder, '--k', '20', '--linear', '--random', '--out',
        str(out))
    return list(json.loads(out.read_text()).values())


def main() -> None:
    start = time.time()
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / 'demo.log', 'w') as log:
        run(log, 'tools/dataset_converters/make_shapes.py', '--out', 'data/shapes')
        whole = run_test(log, *ONE_VECTOR, OUT / 'one_vector')
        print(f"""
Held-out images of 64 x 64 out of one vector of 256 numbers each, by the weights in demo/
  PSNR {whole['image/psnr']:6.2f} dB    SSIM {whole['image/ssim']:.3f}
Picture: {OUT}/one_vector/reconstruction.png""", flush=True)
        random, trained = judge_encoder(log, *ENCODER, OUT / 'features.json')
        print("""
Held-out drawings of 12 classes by a frozen encoder, pre-trained without labels, in demo/""")
        for name, column in (('20 nearest neighbours', 'k = 20'), ('linear classifier', 'linear')):
            print(f'  {name:22}{trained[column][0]:6.1f} %   '
                  f'before training{random[column][0]:6.1f} %', flush=True)
        run(log, 'tools/train.py', CONFIG, '--no-validate')
        metrics = run_test(log, CONFIG, str(OUT), OUT)
    print(f"""
Masked region of held-out images, PSNR
  mean colour of the visible block   {metrics['masked/psnr_mean_colour']:6.2f} dB
  masked FINOLA-B, small encoder     {metrics['masked/psnr']:6.2f} dB
  gain                               {metrics['masked/gain']:+6.2f} dB
Picture: {OUT}/reconstruction.png    Whole log: {OUT}/demo.log    {time.time() - start:.0f} s""")


if __name__ == '__main__':
    main()
