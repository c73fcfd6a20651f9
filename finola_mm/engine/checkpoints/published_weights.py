"""Find the weights that are published with this project by name; ``demo/README.md`` describes them.

Files under 5 MB are part of the wheel. Larger ones are in the folder ``demo/`` of a checkout, or
where the environment variable ``FINOLA_WEIGHTS`` says: a folder, or an address to download from.
"""

import hashlib
import os
from pathlib import Path

from torch import hub

from ...errors import CheckpointError

WEIGHTS = 'FINOLA_WEIGHTS'
PACKAGE = Path(__file__).resolve().parents[2]
FOLDERS = (PACKAGE / '.mim/demo', PACKAGE.parent / 'demo')  # of a wheel, of a checkout
# name -> SHA-256 of the file
PUBLISHED = {
    'det_mf_dec211_shapes': '20d0b828f54a7e02d2fc674412ca2f324feef003653dc75e9c43c2a61bf35c85',
    'finola_photos': '551d16157db4a1d7d41e1b782a30f519b2dfac83ba7ae4422da4ac37fa34b835',
    'masked_finola_b_photos': 'a7d0bd6fb79683b836676d20f4921e2d8202ccca2ae732ccb52db4c7bad74000',
    'masked_finola_b_shapes': 'fc5a4b1a2971a4371a413c3d0873f80586e98eacafc962638a87ed86af2d6d19',
    'mocov2_shapes': '36145a8d3f594622757eea0e123c6581cd3ab3db552b02d4c1029174a1c1f21f',
    'pca_dct_photos': 'f6dc8d6ee4fbc6a1c3f8e344e827ed105fc4909763c471ddda1a88eed314da6b',
    'resnet18_objects12': '44ef4ca3eff157704cc63af31ea0a74d5567b1e9b5fe5b8f4af9738001d13a3e',
    'rtmdet_photopaste': '0c5ed549f47ae9a7d2286659a9e3deabc1e81125babe0d8812ba89e550129bbc',
    'rtmdet_trees': '2d0041349dbdae7d4819bc11b27d363c0f7a32aec91f916a7e314f19925db9d3',
}


def find_published(name: str) -> Path:
    """Return the file ``<name>-<8 digits of its SHA-256>.safetensors`` of a name in ``PUBLISHED``.

    A download is kept in the cache of ``torch.hub``.

    Raises:
        CheckpointError: the file is not found, cannot be downloaded, or has another SHA-256.
    """
    digest = PUBLISHED[name]
    file_name = f'{name}-{digest[:8]}.safetensors'
    place = os.environ.get(WEIGHTS, '')
    cache = Path(hub.get_dir(), 'checkpoints')
    folders = [*FOLDERS, cache if '://' in place else Path(place or '.').expanduser()]
    file = next((f / file_name for f in folders if (f / file_name).is_file()), cache / file_name)
    if not file.is_file():
        if '://' not in place:
            raise CheckpointError(
                f'{file_name} is not in this installation; set {WEIGHTS} to a folder that contains '
                f'it, such as demo/ of a checkout, or to its address (now: {place!r})'
            )
        cache.mkdir(parents=True, exist_ok=True)
        url = f'{place.rstrip("/")}/{file_name}'
        try:
            hub.download_url_to_file(url, str(file), hash_prefix=digest)
        except (OSError, RuntimeError) as error:  # RuntimeError: another hash
            raise CheckpointError(f'cannot download {url} ({WEIGHTS}): {error}') from None
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise CheckpointError(f'{file} is not the published file: its SHA-256 is not {digest}')
    return file
