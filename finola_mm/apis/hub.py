"""Weights from addresses and from the Hugging Face Hub.

The package huggingface_hub is optional, ``pip install 'finola_mm[hub]'``.
"""

import hashlib
import inspect
import re
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from torch import hub

from ..engine import find_checkpoint
from ..errors import CheckpointError, UserError

HUB_ID = re.compile(r'[\w.-]+/[\w.-]+')  # user/repository
HUB_FILE = 'model.safetensors'  # of a folder that save_pretrained wrote, and of a repository
HASH = re.compile(r'-(?=\d*[a-f])([0-9a-f]{8,})\.')  # of a file name, as in torch.hub; not a date
NEEDS_HUB = "install it with: python -m pip install 'huggingface_hub>=0.30'"

CARD = """---
{{ card_data }}
---

# {{ name }}

An image encoder pre-trained with finola_mm (FINOLA, [arXiv 2305.16319]({{ paper_url }})).

| | |
|---|---|
{% for key, value in facts.items() -%}
| {{ key }} | `{{ value }}` |
{% endfor %}
```python
import finola_mm

encoder = finola_mm.load_encoder('USER/REPOSITORY')  # this repository
features = finola_mm.extract_features(encoder, 'photo.jpg')  # (1, C)
```

`{{ file }}` holds the weights, and their description in its metadata; reading it runs no code.
"""

try:
    from huggingface_hub import ModelHubMixin

    if 'paper_url' not in inspect.signature(ModelHubMixin.__init_subclass__).parameters:
        raise ImportError('a version before 0.30')
except ImportError:

    def _missing(*args: Any, **kwargs: Any) -> Any:
        raise UserError(f'huggingface_hub is not installed, or is too old; {NEEDS_HUB}')

    class ModelHubMixin:  # type: ignore[no-redef]
        """Stands in for huggingface_hub's class."""

        from_pretrained = save_pretrained = push_to_hub = staticmethod(_missing)
        generate_model_card = staticmethod(_missing)

        def __init_subclass__(cls, **card: Any):
            super().__init_subclass__()


def find_weights(source: str | PathLike) -> str:
    """Return a local file of weights, unread; download it if necessary.

    Args:
        source (str | Path): The name of published weights; a file; a work directory, whose last
            checkpoint is used; a folder that ``save_pretrained`` wrote; an address (``https://``,
            ``file://``); or the id of a repository on the Hugging Face Hub, ``user/repository``.

    Raises:
        CheckpointError: nothing is found, or a download fails.
        UserError: huggingface_hub is not installed.
    """
    text = str(source)
    if text.startswith('file://'):
        return find_checkpoint(unquote(urlparse(text).path))
    if '://' in text:
        return str(_download(text))
    path = Path(source)
    if (path / HUB_FILE).is_file():
        return str(path / HUB_FILE)
    if HUB_ID.fullmatch(text) and not path.exists() and not path.parent.exists():
        return download_from_hub(text)
    return find_checkpoint(text)


def _download(url: str) -> Path:
    """Return the file of an address, which is kept in the cache of ``torch.hub``."""
    name = Path(unquote(urlparse(url).path)).name
    # Files of several addresses may have the same name.
    folder = Path(hub.get_dir(), 'checkpoints', hashlib.sha256(url.encode()).hexdigest()[:8])
    if not (folder / name).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        digest = HASH.search(name)
        try:
            hub.download_url_to_file(url, str(folder / name), digest and digest[1])
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: another hash
            raise CheckpointError(f'cannot download {url}: {error}') from None
    return folder / name


def download_from_hub(repo_id: str, **options: Any) -> str:
    """Return the weights of a repository, from the cache or the Hub.

    options: arguments of ``huggingface_hub.hf_hub_download``, such as ``revision``.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError:
        raise UserError(
            f'{repo_id} is neither a file nor the name of published weights. If it is a repository '
            f'on the Hugging Face Hub, huggingface_hub is needed; {NEEDS_HUB}'
        ) from None
    try:
        return hf_hub_download(repo_id, HUB_FILE, **options)
    except (OSError, EntryNotFoundError) as error:
        raise CheckpointError(
            f'{repo_id} is neither a file nor the name of published weights, and {HUB_FILE} of the '
            f'repository {repo_id} cannot be read from the Hugging Face Hub: {error}'
        ) from None
