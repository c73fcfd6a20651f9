"""Names and signatures that users, configs and documentation rely on."""

import inspect
import re
import subprocess
import sys

import pytest
import torch

import finola_mm
from finola_mm import functional
from finola_mm.layers import FINOLALayer
from tests.conftest import ROOT

SIGNATURES = {
    'finola': '(q, A, A_neg, B, B_neg, size, origin=None, eps=1e-06)',
    'finola_blockwise': "(feat, offset, A, A_neg, B, B_neg, steps='block', eps=1e-06)",
    'gaussian_curvature': '(z)',
    'wave_speeds': '(A, B)',
}


def plain(signature: inspect.Signature) -> str:
    """A signature without annotations."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


@pytest.mark.parametrize('name', SIGNATURES)
def test_functional_signatures(name):
    assert plain(inspect.signature(getattr(functional, name))) == SIGNATURES[name]


def test_block_mask_takes_offset_block_and_batch_size():
    parameters = list(inspect.signature(functional.block_mask).parameters.values())
    assert [p.name for p in parameters[:3]] == ['offset', 'block', 'n']
    mask = functional.block_mask((1, 0), (2, 3), n=2)
    assert mask.shape == (2, 4, 6) and mask.dtype == torch.bool
    assert not mask[:, 1:3, :3].any() and mask.sum() == 2 * (24 - 6), 'True = masked'


def test_directions_of_the_matrices():
    """A steps to x+1, A_neg to x-1, B to y+1, B_neg to y-1; A @ n(z); paths are summed."""
    generator = torch.Generator().manual_seed(0)
    q, *matrices = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((1, 2, 4), (4, 4), (4, 4), (4, 4), (4, 4))
    )
    z = functional.finola(q, *matrices, (3, 3))
    n = (q - q.mean(-1, keepdim=True)) / (q.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    places = [(1, 2), (1, 0), (2, 1), (0, 1)]
    for (row, col), matrix in zip(places, matrices, strict=True):
        expected = (q + n @ matrix.T).sum(1)
        torch.testing.assert_close(z[:, :, row, col], expected)


PYTHON = {
    'load_encoder': '(source)',
    'extract_features': '(encoder, images, *, size=None, batch_size=32)',
    'load_detector': '(source, config=None)',
    'pretrain': '(data, backbone, *, out, val=None, epochs=100, steps=None, batch_size=128, '
    'image_size=256, num_workers=None, amp=False, pretrained=None, resume=False, options=None)',
}


@pytest.mark.parametrize('name', PYTHON)
def test_python_functions(name):
    assert name in finola_mm.__all__
    assert plain(inspect.signature(getattr(finola_mm, name))) == PYTHON[name]


def test_detector():
    from finola_mm.apis.detection import Detections, Detector

    assert plain(inspect.signature(Detector.predict)) == (
        '(self, source, *, threshold=0.3, batch_size=1)'
    )
    fields = ['boxes', 'scores', 'labels', 'classes', 'masks']
    assert [*Detections.__dataclass_fields__] == fields


def test_mobile_former():
    parameters = inspect.signature(finola_mm.MobileFormer).parameters
    assert list(parameters)[:3] == ['arch', 'out_indices', 'with_tokens']
    assert parameters['out_indices'].default == (4,) and parameters['with_tokens'].default is False
    maps, tokens = finola_mm.MobileFormer('small', (0, 1, 2, 3, 4), True)(torch.rand(2, 3, 64, 64))
    assert [m.shape[2] for m in maps] == [32, 16, 8, 4, 4]
    assert tokens.shape == (2, 6, 64)


def test_finola_layer_parameters():
    assert [name for name, _ in FINOLALayer(4).named_parameters()] == ['A', 'A_neg', 'B', 'B_neg']


def test_load_encoder_is_part_of_the_package():
    file = next((ROOT / 'demo').glob('masked_finola_b_shapes-*.safetensors'))
    encoder = finola_mm.load_encoder(str(file))
    assert not encoder.training
    assert encoder(torch.rand(1, 3, 64, 64))[-1].shape == (1, 256, 4, 4)


WIDTHS = ('', '_w720', '_w1440')
CONFIGS = {
    *(f'selfsup/{name}{w}' for w in WIDTHS for name in ('finola', 'masked_finola_e')),
    *(f'selfsup/{name}{w}' for w in WIDTHS for name in ('masked_finola_b', 'finola_multipath')),
    *(f'selfsup/finola_c{2**k}' for k in range(6, 13)),
    *(f'selfsup/finola_w{w}' for w in (4320, 5760)),
    *(f'det/detr_mf_dec{d}{w}{f}' for d in (522, 211) for w in WIDTHS for f in ('', '_finetune')),
    *(
        f'classification/{name}{w}'
        for w in WIDTHS
        for name in ('lin', 'tran1', 'tran1_ft', 'tran4_ft', 'supervised')
    ),
    *(f'demo/{name}' for name in ('masked_finola_b', 'finola', 'det_mf_dec211')),
}


def test_configs_exist():
    assert [name for name in CONFIGS if not (ROOT / f'configs/{name}.py').is_file()] == []


def test_full_size_configs_name_data_only_in_base():
    """Demos and studies name data/shapes."""
    naming = re.compile(r'data/(imagenet|coco|shapes)|FINOLA_(IMAGENET|COCO)')
    for name in sorted(CONFIGS):
        if not name.startswith('demo/'):
            code = re.sub(r'#.*', '', (ROOT / f'configs/{name}.py').read_text())
            assert not naming.search(code), name
    base = ''.join(file.read_text() for file in (ROOT / 'configs/_base_').glob('*.py'))
    assert 'FINOLA_IMAGENET' in base and 'FINOLA_COCO' in base


OPTIONS = {
    'train': '--work-dir --resume --amp --compile --auto-scale-lr --no-validate --cfg-options '
    '--launcher',
    'test': '--work-dir --out --show-dir --cfg-options --launcher',
}


@pytest.mark.parametrize('tool', OPTIONS)
def test_options_of_the_tools(tool):
    command = [sys.executable, ROOT / f'tools/{tool}.py', '--help']
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert set(OPTIONS[tool].split()) <= set(re.findall(r'--[\w-]+', text))
    assert '{none,pytorch,slurm,mpi}' in text


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_launch_scripts_need_their_arguments(script):
    done = subprocess.run([ROOT / f'tools/{script}.sh'], capture_output=True, text=True)
    assert done.returncode == 2 and 'CONFIG' in done.stderr


def test_make_targets():
    targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    assert {'demo', 'test', 'lint', 'bench', 'study', 'setup'} <= targets
