"""Mobile-Former's ImageNet family against a re-statement of the official code: sizes and values."""

from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.registry import MODELS

from finola_mm import MobileFormer
from finola_mm.apis import load_encoder
from finola_mm.apis.official_mobile_former import from_official
from finola_mm.backbones.mobile_former import ARCHS, FAMILY
from finola_mm.engine import load_weights
from finola_mm.errors import CheckpointError, UserError
from finola_mm.functional import make_padding_mask
from tests.backbones.official import Official
from tests.conftest import ROOT
from tests.forks import run_script
from tests.messages import shows

# Millions of parameters that the official code has, published as 14.0, 11.4, 9.4, 7.6, ...
PARAMS = {
    '508m': 13.98,
    '294m': 11.42,
    '214m': 9.43,
    '151m': 7.60,
    '96m': 4.59,
    '52m': 3.47,
    '26m': 3.23,
}


def classifier(arch, **head):
    """The classifier of a config, with random weights."""
    cfg = Config.fromfile(ROOT / f'configs/classification/mobile_former/{arch}.py').model
    cfg.head.update(head)
    return MODELS.build(cfg)


@pytest.mark.parametrize('arch', FAMILY)
@torch.no_grad()
def test_parameters_and_converted_weights(arch):
    """Maps after every stage, tokens and logits, on odd sizes."""
    official = Official(arch, classes=1000)
    x = torch.randn(2, 3, 69, 98, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    maps, tokens, logits = official(x)
    ends = [i - 1 for i in accumulate(len(stage) for stage in ARCHS[arch]['stages'])]

    model = classifier(arch).double().eval()
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMS[arch], abs=0.005)
    encoder = MobileFormer(arch, range(6), True).double().eval()
    weights = from_official(official.weights, encoder, arch)
    model.load_state_dict(weights)
    body = {k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')}
    encoder.load_state_dict(body)

    got_maps, got_tokens = encoder(x)
    expected = [*(maps[i] for i in ends), maps[-1]]
    for got, wanted in zip(got_maps, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
        assert 0.1 < wanted.std() < 10
    torch.testing.assert_close(got_tokens, tokens, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(x, mode='tensor'), logits, rtol=1e-10, atol=1e-10)


def test_a_checkpoint_becomes_a_file_of_ours(tmp_path, project_root):
    """The tool's file is a model for tools/test.py, and an encoder for everything else."""
    official = Official('26m', classes=7)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, tokens, logits = official(images.double())
    floats = {k: v.float() if v.is_floating_point() else v for k, v in official.weights.items()}
    torch.save(dict(state_dict=floats, epoch=1), tmp_path / 'official.pth')
    tool = 'tools/model_converters/mobile_former_to_finola.py', tmp_path / 'official.pth'
    run_script(*tool, tmp_path / 'ours.pth', '--arch', '26m')

    model = classifier('26m', num_classes=7).eval()
    load_weights(model, tmp_path / 'ours.pth', allow_unused=False)
    torch.testing.assert_close(model(images).double(), logits, rtol=1e-4, atol=1e-4)
    _, got_tokens = load_encoder(tmp_path / 'ours.pth')(images)
    torch.testing.assert_close(got_tokens.double(), tokens, rtol=1e-4, atol=1e-4)

    for arch in ('52m', '96m'):
        with pytest.raises(CheckpointError, match=shows(arch)):
            from_official(floats, MobileFormer(arch, (5,), True), arch)


def test_a_table_with_another_kind_of_block_in_stage_1_is_refused():
    """52m as it is printed: M-F behind bneck-lite, at stride 4, before strides 8 to 32."""
    printed = dict(
        tokens=(3, 128),
        stem=8,
        stages=(
            ((24, 12), (36, 12)),
            ((72, 24), (72, 24)),
            ((144, 48), (192, 48), (288, 64)),
            ((384, 96), (576, 96)),
        ),
        out=576,
    )
    with pytest.raises(UserError, match=shows('stage 1', [2, 2, 3, 2], 'strides')):
        MobileFormer(printed)
    one = {**ARCHS['52m'], 'strides': (2, 2, 2, 2)}
    with pytest.raises(UserError, match=shows('stride', [1, 1, 2, 3, 2], (2, 2, 2, 2))):
        MobileFormer(one)


@pytest.fixture
def encoder():
    """All parts that FINOLA's encoders do not have, with weights that matter."""
    torch.manual_seed(0)
    model = MobileFormer('26m', range(6), True).double()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.05)
    return model


def test_padding_changes_nothing(encoder):
    x = torch.randn(1, 3, 70, 98, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    encoder.eval()
    maps, tokens = encoder(x)
    padded = F.pad(x, (0, 30, 0, 58), value=5)
    got_maps, got_tokens = encoder(padded, make_padding_mask([(70, 98)], (128, 128)))
    for stride, got, expected in zip((4, 4, 8, 16, 32, 32), got_maps, maps, strict=True):
        height, width = -(-70 // stride), -(-98 // stride)
        torch.testing.assert_close(got[:, :, :height, :width], expected)
    torch.testing.assert_close(got_tokens, tokens)


@pytest.mark.parametrize('frozen', [-1, 5, 6])
def test_every_part_is_trained_or_frozen(frozen):
    encoder = MobileFormer('26m', range(6), True, frozen_stages=frozen).train()
    maps, tokens = encoder(torch.randn(2, 3, 64, 64))
    trained = {name.partition('.')[0] for name, p in encoder.named_parameters() if p.requires_grad}
    parts = {'tokens', 'stem', 'stages', 'out', 'last_to_former'}
    assert trained == {-1: parts, 5: {'out', 'last_to_former'}, 6: set()}[frozen]
    assert any(m.training for m in encoder.modules()) == (frozen < 6)
    if frozen < 6:
        (sum(m.mean() for m in maps) + tokens[:, 1].sum()).backward()
    for name, p in encoder.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    depths = [encoder.get_layer_depth(f'{name}.') for name in ('last_to_former', 'out')]
    assert depths == [(10, 13), (11, 13)]  # behind stem, 1, and nine blocks
