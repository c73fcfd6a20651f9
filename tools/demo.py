"""Run the demo: reconstruct photographs, pre-train a small encoder, test it, and detect objects.

    python tools/demo.py

Models trained on photographs reconstruct those of the scikit-image wheel, on which they were not
trained, from one latent vector or one visible block each. The other parts use generated images: the
demo evaluates frozen encoders, pre-trains one, and detects objects. Only the pre-training is not
done in advance (demo/README.md). Each step is an ordinary command, which is printed before it runs.
The full output is written to work_dirs/demo/demo.log.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from PIL import Image

from finola_mm.apis import command_line
from finola_mm.engine import CheckpointError, find_checkpoint
from finola_mm.errors import UserError

ROOT = Path(os.path.relpath(Path(__file__).resolve().parents[1]))  # the folder of tools/
CONFIG = str(ROOT / 'configs/demo/masked_finola_b.py')
OUT = Path('work_dirs/demo')
# Names of published weights; demo/README.md describes how they were trained.
SINGLE_VECTOR = str(ROOT / 'configs/photos/finola.py'), 'finola_photos'
BASELINES = 'pca_dct_photos'
MASKED = str(ROOT / 'configs/photos/masked_finola_b.py'), 'masked_finola_b_photos'
# In the folder data/ of the scikit-image wheel
PHOTOGRAPHS = (
    'astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png '
    'grass.png gravel.png hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg '
    'rocket.jpg'
).split()
FEATURES = str(ROOT / 'configs/study/finola.py')
ENCODERS = {'masked FINOLA-B': 'masked_finola_b_shapes', 'MoCo v2': 'mocov2_shapes'}
DETECTOR = str(ROOT / 'configs/demo/det_mf_dec211.py'), 'det_mf_dec211_shapes'
QUIET = 'tools/train.py', 'tools/test.py', 'tools/analysis/knn.py'  # print only their progress
PROGRESS = re.compile(r'Iter\(train\) \[ *(\d+)/(\d+)\].*?eta: (\S+).*?loss: (\S+)')
# Let glibc keep freed memory instead of returning each large map to the kernel.
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '4294967296', 'MALLOC_TRIM_THRESHOLD_': '8589934592'}


def run(log: TextIO, *command: str) -> None:
    """Run a Python script of the project, print its progress, and write its output to ``log``."""
    line = ' '.join([os.path.relpath(sys.executable), str(ROOT / command[0]), *command[1:]])
    print(f'\n$ {line}', flush=True)
    log.write(f'$ {line}\n')
    process = subprocess.Popen(
        [sys.executable, ROOT / command[0], *command[1:]],
        env={**MALLOC, **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        log.write(line)
        log.flush()
        if progress := PROGRESS.search(line):
            print('  step {}/{}   time left {}   loss {}'.format(*progress.groups()), flush=True)
        elif command[0] not in QUIET:
            print('  ' + line, end='', flush=True)
    if process.wait():
        raise UserError(f'{command[0]} failed; see its output in {log.name}')


def is_installed(name: str) -> bool:
    """Tell whether the weights of this name are there; larger files are not part of a wheel."""
    try:
        find_checkpoint(name)
    except CheckpointError as error:
        print(f'\nSkipped: {error}')
        return False
    return True


def run_test(log: TextIO, config: str, checkpoint: str, out: Path) -> dict[str, float]:
    """Run tools/test.py, which writes pictures to ``out``; return the metrics."""
    options = f'--work-dir {out} --out {out}/metrics.json --show-dir {out}'.split()
    run(log, 'tools/test.py', config, checkpoint, *options)
    return json.loads((out / 'metrics.json').read_text())


def reconstruct(log: TextIO) -> None:
    """Reconstruct photographs, each from one latent vector or from one visible block."""
    folder = OUT / 'photographs'
    folder.mkdir(exist_ok=True)
    for name in PHOTOGRAPHS:
        (folder / name).write_bytes((files('skimage') / 'data' / name).read_bytes())
    tool, common = 'tools/visualization/reconstruct.py', [str(folder), '--out']
    print('\nPhotographs of scikit-image, 64 x 64, each from a single vector of 256 numbers')
    baselines = ['--baselines', BASELINES] if is_installed(BASELINES) else []
    run(log, tool, *SINGLE_VECTOR, *common, f'{OUT}/one_vector.png', *baselines)
    if is_installed(MASKED[1]):
        print('\nThe same photographs, 128 x 128, each from one visible block of 64 x 64')
        run(log, tool, *MASKED, *common, f'{OUT}/one_block.png')
        print('The mean colour of the block can be the better guess: demo/README.md')


def evaluate_encoders(log: TextIO) -> None:
    """Evaluate an untrained encoder and the frozen encoders in demo/."""
    out = OUT / 'features.json'
    options = f'--k 20 --linear --random --out {out}'.split()
    run(log, 'tools/analysis/knn.py', FEATURES, *ENCODERS.values(), *options)
    accuracies = json.loads(out.read_text()).values()  # top-1 and top-5 of each classifier
    print("""
Top-1 accuracy of the frozen encoders in demo/ on held-out images of 12 classes
                      20 nearest neighbours   linear classifier""")
    for name, found in zip(('before training', *ENCODERS), accuracies, strict=True):
        print(f'  {name:20}{found["k = 20"][0]:19.1f} %{found["linear"][0]:18.1f} %', flush=True)


def pretrain(log: TextIO) -> None:
    """Pre-train the small encoder and reconstruct the masked region of held-out images."""
    run(log, 'tools/train.py', CONFIG, '--no-validate')
    metrics = run_test(log, CONFIG, str(OUT), OUT)
    print(
        f"""
Masked region of held-out images, PSNR
  mean colour of the visible block   {metrics['masked/psnr_mean_colour']:6.2f} dB
  masked FINOLA-B, small encoder     {metrics['masked/psnr']:6.2f} dB
  gain                               {metrics['masked/gain']:+6.2f} dB
Picture: {OUT}/reconstruction.png""",
        flush=True,
    )


def detect(log: TextIO) -> None:
    """Detect objects with the detector in demo/."""
    if not is_installed(DETECTOR[1]):
        return
    for old in (OUT / 'detection').glob('*.jpg'):
        old.unlink()
    metrics = run_test(log, *DETECTOR, OUT / 'detection')
    scenes = sorted((OUT / 'detection').glob('*.jpg'))
    draw_contact_sheet(scenes[:12], OUT / 'detections.png')
    print(
        f"""
Objects of 12 classes in {len(scenes)} held-out scenes, with the detector in demo/
  AP {100 * metrics['coco/bbox_mAP']:5.1f} %    AP50 {100 * metrics['coco/bbox_mAP_50']:5.1f} %
Picture, with the ground truth on the left of each pair: {OUT}/detections.png""",
        flush=True,
    )


def draw_contact_sheet(pictures: list[Path], out: Path, columns: int = 4) -> None:
    """Combine pictures of different sizes into one."""
    images = [Image.open(picture) for picture in pictures]
    width, height = (max(sides) for sides in zip(*(image.size for image in images), strict=True))
    sheet = Image.new('RGB', (columns * width, -(-len(images) // columns) * height), 'white')
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    sheet.save(out)


@command_line
def main() -> None:
    argparse.ArgumentParser(description='Run the demo; see also the README').parse_args()
    start = time.time()
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / 'demo.log', 'w') as log:
        run(log, 'tools/dataset_converters/make_shapes.py', '--out', 'data/shapes')
        for part in (reconstruct, evaluate_encoders, pretrain, detect):
            part(log)
    print(f'Full log: {OUT}/demo.log    {time.time() - start:.0f} s')


if __name__ == '__main__':
    main()
