"""The demo: make the data, pre-train the small encoder, test it, draw what it completes.

Before the training, images through one vector and classes out of frozen encoders, after it the
objects that a detector finds, all three with the weights in demo/. All are commands that a user
could type; each is shown before it runs, its whole output goes to work_dirs/demo/demo.log.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

CONFIG = 'configs/demo/masked_finola_b.py'
OUT = Path('work_dirs/demo')
# demo/README.md says how they were trained.
ONE_VECTOR = 'configs/study/reconstruction.py', 'demo/finola_shapes-8a2e96ea.safetensors'
ENCODERS = {
    'masked FINOLA-B': 'demo/masked_finola_b_shapes-fc5a4b1a.safetensors',
    'MoCo v2': 'demo/mocov2_shapes-36145a8d.safetensors',
}
DETECTOR = 'configs/demo/det_mf_dec211.py', 'demo/det_mf_dec211_shapes-6d81c10d.safetensors'
# glibc: keep freed memory, which makes training on a CPU faster (docs/scale.md).
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '4294967296', 'MALLOC_TRIM_THRESHOLD_': '8589934592'}
QUIET = 'tools/train.py', 'tools/test.py', 'tools/analysis/knn.py'  # only their progress is shown
PROGRESS = re.compile(r'Iter\(train\) \[ *(\d+)/(\d+)\].*?eta: (\S+).*?loss: (\S+)')


def run(log, *command: str) -> None:
    """Run a Python script of the project; show its progress, keep its output in ``log``."""
    print('\n$ .venv/bin/python ' + ' '.join(command), flush=True)
    log.write(f'$ python {" ".join(command)}\n')
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**MALLOC, **os.environ},
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
    run(
        log,
        'tools/test.py',
        config,
        checkpoint,
        '--work-dir',
        str(out),
        '--out',
        f'{out}/metrics.json',
        '--show-dir',
        str(out),
    )
    return json.loads((out / 'metrics.json').read_text())


def one_vector(log) -> None:
    """Images out of one vector each, by weights that come with the code."""
    found = run_test(log, *ONE_VECTOR, OUT / 'one_vector')
    print(
        f"""
Held-out images of 64 x 64 out of one vector of 256 numbers each, by the weights in demo/
  PSNR {found['image/psnr']:6.2f} dB    SSIM {found['image/ssim']:.3f}
Picture: {OUT}/one_vector/reconstruction.png""",
        flush=True,
    )


def features(log) -> None:
    """What the frozen encoders that come with the code know of the classes; one untrained, too."""
    out = OUT / 'features.json'
    run(
        log,
        'tools/analysis/knn.py',
        'configs/study/finola.py',
        *ENCODERS.values(),
        '--k',
        '20',
        '--linear',
        '--random',
        '--out',
        str(out),
    )
    judged = json.loads(out.read_text()).values()  # top-1 and top-5 of each classifier
    print("""
Held-out drawings of 12 classes by frozen encoders in demo/, pre-trained without labels
                      20 nearest neighbours   linear classifier""")
    for name, found in zip(('before training', *ENCODERS), judged, strict=True):
        print(f'  {name:20}{found["k = 20"][0]:19.1f} %{found["linear"][0]:18.1f} %', flush=True)


def completion(log) -> None:
    """Pre-train, and complete held-out images."""
    run(log, 'tools/train.py', CONFIG, '--no-validate')
    found = run_test(log, CONFIG, str(OUT), OUT)
    print(
        f"""
Masked region of held-out images, PSNR
  mean colour of the visible block   {found['masked/psnr_mean_colour']:6.2f} dB
  masked FINOLA-B, small encoder     {found['masked/psnr']:6.2f} dB
  gain                               {found['masked/gain']:+6.2f} dB
Picture: {OUT}/reconstruction.png""",
        flush=True,
    )


def detection(log) -> None:
    """Objects that a detector finds which comes with the code."""
    for old in (OUT / 'detection').glob('*.jpg'):
        old.unlink()
    found = run_test(log, *DETECTOR, OUT / 'detection')
    scenes = sorted((OUT / 'detection').glob('*.jpg'))
    contact_sheet(scenes[:12], OUT / 'detections.png')
    print(
        f"""
Objects of 12 classes in {len(scenes)} held-out scenes, found by the detector in demo/
  AP {100 * found['coco/bbox_mAP']:5.1f} %    AP50 {100 * found['coco/bbox_mAP_50']:5.1f} %
Picture, the truth on the left of each pair: {OUT}/detections.png""",
        flush=True,
    )


def contact_sheet(pictures: list[Path], out: Path, columns: int = 4) -> None:
    """Paste pictures of different sizes into one."""
    images = [Image.open(picture) for picture in pictures]
    width, height = (max(sides) for sides in zip(*(image.size for image in images), strict=True))
    sheet = Image.new('RGB', (columns * width, -(-len(images) // columns) * height), 'white')
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    sheet.save(out)


def main() -> None:
    start = time.time()
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / 'demo.log', 'w') as log:
        run(log, 'tools/dataset_converters/make_shapes.py', '--out', 'data/shapes')
        for part in (one_vector, features, completion, detection):
            part(log)
    print(f'Whole log: {OUT}/demo.log    {time.time() - start:.0f} s')


if __name__ == '__main__':
    main()
