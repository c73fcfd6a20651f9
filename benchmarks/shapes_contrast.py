"""Measure how hard the generated shapes are to classify and to complete.

    python benchmarks/shapes_contrast.py --data data/shapes/imagenet

Prints two tables. The first gives the accuracy of a kNN vote on colours, on thumbnails and on the
features of a random encoder (all should be low), and of the same encoder after a few minutes of
supervised training (should be high). The second gives the PSNR of simple guesses over the masked
three quarters of the val images. A trained model must be well above the mean colour, and cannot be
much better than the best smooth fit without the objects.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from torch import nn

from finola_mm import MobileFormer
from finola_mm.engine import computes_bfloat16

SIDE = 128  # pixels, as in configs/demo
MARGIN = 16  # training crops move by up to this much
K = 20  # neighbours


def load(folder):
    """Images (N, 3, SIDE + MARGIN, SIDE + MARGIN) uint8 and labels (N,), in class order."""
    classes = sorted(path for path in folder.glob('*') if path.is_dir())
    files = [(file, label) for label, path in enumerate(classes) for file in sorted(path.iterdir())]
    if not files:
        raise SystemExit(
            f'{folder} contains no class folders with images. Make them: python '
            'tools/dataset_converters/make_shapes.py --out data/shapes'
        )
    side = SIDE + MARGIN
    images = np.stack(
        [
            cv2.resize(cv2.imread(str(file))[..., ::-1], (side, side), interpolation=cv2.INTER_AREA)
            for file, _ in files
        ]
    )
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([k for _, k in files])


def centre(images):
    return images[..., MARGIN // 2 : -MARGIN // 2, MARGIN // 2 : -MARGIN // 2]


def normalise(images):
    return ((images.float() - 127.5) / 64).contiguous(memory_format=torch.channels_last)


def knn(train, train_labels, val, val_labels):
    """Accuracy of a vote of the K nearest by cosine, weighted by similarity, in percent."""
    mean = train.mean(0)  # positive features without this have a cosine of nearly 1
    train, val = F.normalize(train - mean, dim=1), F.normalize(val - mean, dim=1)
    similarity, index = (val @ train.T).topk(K)  # (N, K)
    votes = torch.zeros(len(val), int(train_labels.max()) + 1)
    votes.scatter_add_(1, train_labels[index], (similarity / 0.07).exp())
    return 100 * (votes.argmax(1) == val_labels).float().mean().item()


def thumbnails(images, side):
    return F.adaptive_avg_pool2d(images.float(), side).flatten(1)


def histograms(images):
    """Square roots of a joint RGB histogram of 4 x 4 x 4 cells: their cosine is Hellinger's."""
    cells = (images // 64).long()  # (N, 3, H, W)
    cells = (16 * cells[:, 0] + 4 * cells[:, 1] + cells[:, 2]).flatten(1)  # (N, HW)
    return torch.zeros(len(cells), 64).scatter_add_(1, cells, torch.ones(cells.shape)).sqrt()


@torch.no_grad()
def global_pool(encoder, images):
    """The average of the encoder's last map: (N, 3, H, W) -> (N, C)."""
    encoder.eval()
    return torch.cat([encoder(normalise(batch))[0].mean((2, 3)) for batch in images.split(100)])


def train(encoder, classifier, images, labels, steps, batch):
    """Supervised training: AdamW, 30 steps of warm-up, then a cosine."""
    encoder.train()
    parameters = [*encoder.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.05)
    for step in range(steps):
        rate = 3e-3 * min(1, (step + 1) / 30) * (1 + np.cos(np.pi * step / steps)) / 2
        optimizer.param_groups[0]['lr'] = rate
        chosen = torch.randint(len(images), (batch,))
        y, x = torch.randint(MARGIN + 1, (2,)).tolist()
        crop = images[chosen, :, y : y + SIDE, x : x + SIDE]
        with torch.autocast('cpu', torch.bfloat16, enabled=computes_bfloat16('cpu')):
            features = encoder(normalise(crop.flip(-1) if step % 2 else crop))[0].mean((2, 3))
            logits = classifier(features)
        loss = F.cross_entropy(logits.float(), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def guesses(image, visible, x, y):
    """Simple completions of ``image`` (H, W, 3) from its visible pixels: name -> (H, W, 3)."""
    plane = np.stack([np.ones_like(x), x, y], -1)
    bowl = np.concatenate([plane, np.stack([x * x, x * y, y * y], -1)], -1)

    def fit(terms, known):
        return terms @ np.linalg.lstsq(terms[known], image[known], rcond=None)[0]

    mean, linear = image[visible].mean(0) + 0 * image, fit(plane, visible)
    return {
        'mean colour of the visible block': mean,
        'plane fitted to the visible block': linear,
        'half way between the two': (mean + linear) / 2,
        'quadratic fitted to the visible block': fit(bowl, visible),
        'quadratic fitted to the masked region (cheats)': fit(bowl, ~visible),
    }


def completion(images, rng):
    """Masked-region PSNR in dB of each guess: per image, clamped to [0, 1], then averaged."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    psnr = {}
    for image in images.permute(0, 2, 3, 1).numpy() / 255.0:
        top, left = rng.integers(0, 9, 2) * (SIDE // 16)  # blocks of half the side, 81 positions
        visible = np.zeros((SIDE, SIDE), bool)  # True = visible
        visible[top : top + SIDE // 2, left : left + SIDE // 2] = True
        for name, guess in guesses(image, visible, x, y).items():
            error = ((guess.clip(0, 1) - image)[~visible] ** 2).mean()
            psnr.setdefault(name, []).append(-10 * np.log10(error))
    return {name: np.mean(values) for name, values in psnr.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, default=Path('data/shapes/imagenet'))
    parser.add_argument('--steps', type=int, default=250, help='of supervised training')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    (images, labels), (val, val_labels) = load(args.data / 'train'), load(args.data / 'val')
    classes = int(labels.max()) + 1

    encoder = MobileFormer('small').to(memory_format=torch.channels_last)
    features = {
        'mean colour': lambda z: thumbnails(z, 1),
        'colour histogram, 4 x 4 x 4': histograms,
        'thumbnail, 16 x 16': lambda z: thumbnails(z, 16),
        'random small encoder': lambda z: global_pool(encoder, z),
    }
    rows = {
        f'kNN, {name}': knn(f(centre(images)), labels, f(centre(val)), val_labels)
        for name, f in features.items()
    }
    classifier = nn.Linear(256, classes)
    start = time.time()
    train(encoder, classifier, images, labels, args.steps, args.batch)
    minutes = (time.time() - start) / 60
    with torch.no_grad():
        correct = classifier(global_pool(encoder, centre(val))).argmax(1) == val_labels
    rows[f'supervised, {args.steps} steps of {args.batch}, {minutes:.1f} min'] = (
        100 * correct.float().mean().item()
    )

    print(
        f'{machine()}, seed {args.seed}, {len(images)} + {len(val)} images of {classes} classes\n'
    )
    rows = {'chance': 100 / classes, **rows}
    print('| classes predicted from | val top-1, % |\n|---|---|')
    for name, value in rows.items():
        print(f'| {name} | {value:.1f} |')
    print('\n| completion of the masked region | PSNR, dB |\n|---|---|')
    for name, value in completion(centre(val), np.random.default_rng(args.seed)).items():
        print(f'| {name} | {value:.2f} |')


if __name__ == '__main__':
    main()
