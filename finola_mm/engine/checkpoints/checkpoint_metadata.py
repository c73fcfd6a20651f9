"""What a checkpoint says about the run that made it, read from it as data."""

import ast
import re
from typing import Any

# A backbone's arguments that belong to one training, not to the encoder that comes out of it.
OF_TRAINING = ('init_cfg', 'with_cp', 'frozen_stages', 'norm_eval', 'drop_path_rate')
NORMALIZATION = ('mean', 'std', 'to_rgb')


def checkpoint_metadata(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The record of a checkpoint: plain values, without what the checkpoint does not say.

    source: name of the run's config; epoch, iter: how far it got; encoder: the config of its
    backbone, without what belongs to one training; normalization: mean, std and to_rgb of its
    images. A file of ``write_weights`` gives back the ``meta`` it was written with.
    """
    meta = checkpoint.get('meta', {})
    if 'format_version' in meta:
        return {**meta, 'encoder': _lasting(meta['encoder'])} if 'encoder' in meta else meta
    config = read_config_text(meta.get('cfg', ''))
    model = _part(config, 'model')
    images = _part(model, 'data_preprocessor') or _part(config, 'data_preprocessor')
    if 'bgr_to_rgb' in images:  # mmdet's name
        images = {**images, 'to_rgb': images['bgr_to_rgb']}
    record = dict(
        # MMEngine's experiment name is the config's, and the time when the run began.
        source=re.sub(r'_\d{8}_\d{6}$', '', meta.get('experiment_name', '')),
        epoch=meta.get('epoch'),
        iter=meta.get('iter'),
        encoder=_lasting(_part(model, 'backbone')),
        normalization={key: images[key] for key in NORMALIZATION if key in images},
    )
    return {key: value for key, value in record.items() if value not in (None, '', {})}


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _lasting(encoder: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in encoder.items() if key not in OF_TRAINING}


def read_config_text(text: str) -> dict[str, Any]:
    """The settings of a config as MMEngine prints it, ``name = value`` with ``dict(...)``.

    Nothing is executed, as MMEngine's own parser would: a value that is no literal becomes None,
    and a text that is no config gives an empty dict.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return {}
    return {
        statement.targets[0].id: _value(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    try:
        if isinstance(node, ast.Dict):
            keys = map(ast.literal_eval, node.keys)
            return dict(zip(keys, map(_value, node.values), strict=True))
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # TypeError: a key that cannot be hashed
        return None
