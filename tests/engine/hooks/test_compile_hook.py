"""Compiled by a backend that only traces: the traced function must be the same.

Masked FINOLA-B is in test_exact_resume.py: a run that is resumed with the hook.
"""

from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample

from finola_mm.apis.trainee import Trainee
from finola_mm.engine import CompileHook
from finola_mm.functional.compat import COMPILES
from tests.messages import shows

pytestmark = pytest.mark.skipif(not COMPILES, reason='--compile requires torch 2.6')


@pytest.fixture(autouse=True)
def forget_sizes():
    """A second size of the input would be compiled as a symbol."""
    torch._dynamo.reset()


def build(name):
    cfg = Config.fromfile(f'configs/demo/{name}.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    cfg.model.backbone.pop('init_cfg', None)
    return MODELS.build(cfg.model).train()


def run(model, hook):
    logger = MMLogger.get_instance('compile', log_level='ERROR')
    runner = SimpleNamespace(model=model, logger=logger, cfg={})
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)


def scenes(size):
    """Two images, the second one padded."""
    objects = InstanceData(bboxes=torch.tensor([[4.0, 6, 30, 30]]), labels=torch.tensor([3]))
    shapes = (size, (size[0] - 9, size[1] - 20))
    return [DetDataSample(gt_instances=objects, metainfo=dict(img_shape=s)) for s in shapes]


def labelled():
    return [DataSample().set_gt_label(3), DataSample().set_gt_label(5)]


CASES = {
    'cls_tran1': ((64, 64), labelled),
    'det_mf_dec211': ((64, 96), lambda: scenes((64, 96))),
}


@pytest.mark.parametrize(
    'name', ['cls_tran1', pytest.param('det_mf_dec211', marks=pytest.mark.slow)]
)
def test_the_step_stays_the_same(project_root, name):
    size, samples = CASES[name]
    model = build(name)
    names = list(model.state_dict())
    images = torch.randn(2, 3, *size)
    losses = []
    for hook in (None, CompileHook(backend='eager')):
        if hook is not None:
            run(model, hook)
        torch.manual_seed(1)  # dropout
        losses.append(model.loss(images, samples()))
    torch.testing.assert_close(losses[1], losses[0])
    sum(value for name, value in losses[1].items() if 'loss' in name).backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None for parameter in trained)
    assert list(model.state_dict()) == names
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] >= 2


def test_parts_and_their_options(project_root, monkeypatch):
    """On a GPU: CUDA graphs, but not for block-wise FINOLA; no head without a forward."""
    options = {}
    monkeypatch.setattr('finola_mm.engine.hooks.compile_hook.get_device', lambda: 'cuda')
    monkeypatch.setattr(
        'torch.nn.Module.compile',
        lambda self, **kwargs: options.update({type(self).__name__: kwargs}),
    )
    graphs = dict(mode='reduce-overhead', backend='eager')
    run(build('masked_finola_b'), CompileHook(backend='eager'))
    assert options == dict(
        MobileFormer=graphs,
        BlockFINOLANeck=dict(backend='eager', mode=None, dynamic=True),
        TransformerUpsampler=graphs,
    )
    options.clear()
    run(build('det_mf_dec211'), CompileHook(backend='eager'))
    assert options == dict.fromkeys(options, dict(backend='eager')) and len(options) == 2


@pytest.mark.slow
def test_gradients_of_compiled_kernels(project_root):
    """In bfloat16 on this CPU, they are as near to those in float32 as without compilation."""
    cfg = Config.fromfile('configs/demo/masked_finola_b.py')
    gradients = {}
    for name, precision in (('exact', 'float32'), ('eager', 'bfloat16'), ('compiled', 'bfloat16')):
        trainee = Trainee(cfg, 16, precision)
        if name == 'compiled':
            trainee.compile(parts=['backbone'])
        model, batch = trainee.model, trainee.batch()
        with trainee.optim_wrapper.optim_context(model):
            losses = model(**model.data_preprocessor(batch, True), mode='loss')
        losses['loss'].backward()
        gradients[name] = torch.cat([p.grad.flatten() for p in model.backbone.parameters()])
    error = {name: (value - gradients['exact']).norm() for name, value in gradients.items()}
    if not error['eager']:
        pytest.skip('this CPU has no bfloat16 instructions: trainings stay in float32')
    assert 0 < error['compiled'] < 1.2 * error['eager']


def test_a_missing_part(project_root):
    with pytest.raises(ValueError, match=shows('MaskedFINOLA', 'decoder')):
        run(build('masked_finola_b'), CompileHook(parts=['backbone', 'decoder']))
