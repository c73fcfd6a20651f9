"""Write a module in a format of another runtime, and run such a file.

Each format has a function that writes it and one that loads it. A loaded file is a function of
float32 images (N, 3, H, W) that returns the list of outputs. The packages are imported where they
are used; ``PACKAGES`` lists them.

The formats that are traced (ncnn, torchscript, coreml) have fixed sizes. OpenVINO reads the ONNX
file. int8 is made from the ONNX file, too, by onnxruntime's quantization.
"""

import logging
import shutil
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.export
from torch import Tensor, nn

from ..errors import UserError

Session = Callable[[Tensor], list[Tensor]]

ONNX = ('onnx', 'onnxruntime', 'onnxscript')
PACKAGES = dict(
    onnx=ONNX,
    openvino=(*ONNX, 'openvino'),
    ncnn=('pnnx', 'ncnn'),
    torchscript=(),
    coreml=('coremltools',),
)
SUFFIXES = dict(
    onnx='.onnx', openvino='.xml', ncnn='.param', torchscript='.pt', coreml='.mlpackage'
)
TRACED = ('ncnn', 'torchscript', 'coreml')
INT8 = ('onnx', 'openvino')
SIZE = (192, 256)  # of the traced images if the size is dynamic
STRIDE = 32  # of a detector's coarsest map


# ---- writing


def export_onnx(
    module: Any,
    file: Path,
    *,
    batch: int | None = None,
    size: Sequence[int] | None = None,
    step: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``module`` as ONNX; the batch and the image size are dynamic where they are None.

    step: of which dynamic sizes are a multiple.

    Raises:
        UserError: torch cannot export the module, or not with these dynamic axes.
    """
    for name in ('onnxscript', 'onnx_ir', 'torch.onnx'):
        logging.getLogger(name).setLevel(logging.ERROR)
    dims: dict[int, Any] = {}
    if batch is None:
        dims[0] = torch.export.Dim('batch', min=1, max=1024)
    if size is None:
        for axis, name in ((2, 'height'), (3, 'width')):
            dims[axis] = step * torch.export.Dim(name, min=32 // step, max=8192 // step)
    images = 255 * torch.rand(batch or 2, 3, *(size or SIZE))
    remedy = 'Fix the dynamic axes: --batch N --size H W' if dims else 'It cannot be exported'
    try:
        program: Any = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            dynamic_shapes=(dims,) if dims else None,
            input_names=['images'],
            output_names=module.names,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f'torch cannot export this model: {cause}. {remedy}') from error
    shape = program.model.graph.inputs[0].shape
    names = ('batch', 'channels', 'height', 'width')
    fixed = [names[axis] for axis in dims if isinstance(shape[axis], int)]
    if fixed:  # the exporter does this without an error
        raise UserError(f'{" and ".join(fixed)} cannot be dynamic in this model. {remedy}')
    program.model.metadata_props.update(metadata or {})
    program.save(file, external_data=False)


def onnx_to_openvino(source: Path, file: Path) -> None:
    """Write an ONNX file as OpenVINO's ``file``.xml and .bin, without rounding to float16."""
    import openvino

    model = openvino.convert_model(source)
    openvino.save_model(model, file, compress_to_fp16=False)


def export_torchscript(module: nn.Module, file: Path, images: Tensor) -> None:
    """Write the trace of ``module`` on ``images``."""
    trace(module, images).save(str(file))


def export_ncnn(module: nn.Module, file: Path, images: Tensor) -> None:
    """Write ``file``.param and .bin through pnnx, in float32; one image at a time.

    Raises:
        UserError: ncnn lacks an operator.
    """
    import pnnx

    with TemporaryDirectory() as folder:
        traced = Path(folder, 'model.pt')
        export_torchscript(module, traced, images)
        shape = ','.join(map(str, images.shape))
        command = [pnnx.EXEC_PATH, traced.name, f'inputshape=[{shape}]f32', 'fp16=0']
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        written = Path(folder, 'model.ncnn.param')
        if result.returncode or not written.exists():
            raise UserError(f'pnnx failed: {(result.stderr or result.stdout).strip()[-300:]}')
        # pnnx writes the operators that ncnn lacks under their names in torch.
        operators = {line.split()[0] for line in written.read_text().splitlines()}
        missing = sorted(name for name in operators if '.' in name or '::' in name)
        if missing:
            raise UserError(f'ncnn has no {", ".join(missing)}. Export to another format')
        shutil.move(written, file)
        shutil.move(Path(folder, 'model.ncnn.bin'), file.with_suffix('.bin'))


def export_coreml(module: Any, file: Path, images: Tensor) -> None:
    """Write a Core ML package (a folder) in float32, for iOS 16 or macOS 13 and later.

    Raises:
        UserError: coremltools lacks an operator.
    """
    logging.getLogger('coremltools').setLevel(logging.ERROR)
    import coremltools

    try:
        model = coremltools.convert(
            trace(module, images),
            inputs=[coremltools.TensorType('images', shape=images.shape)],
            outputs=[coremltools.TensorType(name) for name in module.names],
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
    except (ValueError, RuntimeError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f'coremltools cannot convert this model: {cause}') from error
    model.save(str(file))


def trace(module: nn.Module, images: Tensor) -> torch.jit.ScriptModule:
    """Trace ``module`` on ``images``, whose sizes become constants."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.trace(module, (images,), check_trace=False)


def quantize_onnx(source: Path, file: Path, batches: Sequence[Tensor] | None = None) -> None:
    """Write the ONNX file ``source`` with int8 weights.

    batches: images (N, 3, H, W) each, from which the ranges of activations are measured (static
        quantization). Without them the ranges are measured in every run (dynamic).
    """
    import onnx
    from onnxruntime import quantization as q

    model = onnx.load(source)
    del model.graph.value_info[:]  # the exporter leaves shapes that contradict the quantized graph
    logging.getLogger().setLevel(logging.ERROR)  # onnxruntime recommends what was just done
    with TemporaryDirectory() as folder:
        prepared = Path(folder, 'prepared.onnx')
        onnx.save(model, prepared)
        # Folds constants: the weights of an expanding depthwise convolution are split.
        q.shape_inference.quant_pre_process(prepared, prepared, skip_symbolic_shape=True)
        if batches is None:
            q.quantize_dynamic(prepared, file, per_channel=True, weight_type=q.QuantType.QInt8)
            return
        q.quantize_static(
            prepared,
            file,
            Batches(batches),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=['Conv', 'MatMul', 'Gemm'],
            extra_options=dict(ActivationSymmetric=False, WeightSymmetric=True),
        )


class Batches:
    """Batches of images in the form that onnxruntime's calibration reads."""

    def __init__(self, batches: Sequence[Tensor]):
        self.left: Iterator = iter(batches)

    def get_next(self) -> dict | None:
        images = next(self.left, None)
        return None if images is None else {'images': images.numpy()}


# ---- running


def load_onnx(file: Path, *, threads: int = 0) -> Session:
    """Load an ONNX file into onnxruntime; threads 0: all cores, as in the other runtimes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(None, {'images': images.numpy()})]

    return run


def load_openvino(file: Path, *, threads: int = 0) -> Session:
    """Load a file of OpenVINO, or an ONNX file, in float32."""
    import openvino

    settings = {'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': 'f32'}
    request = openvino.Core().compile_model(file, 'CPU', settings).create_infer_request()

    def run(images: Tensor) -> list[Tensor]:
        outputs = request.infer([images.numpy()])
        return [torch.from_numpy(x.copy()) for x in outputs.values()]

    return run


def load_torchscript(file: Path, *, threads: int = 0) -> Session:
    """Load a traced module; torch has one number of threads for a process."""
    module = torch.jit.load(str(file))

    @torch.no_grad()
    def run(images: Tensor) -> list[Tensor]:
        return list(module(images))

    return run


def load_ncnn(file: Path, *, threads: int = 0) -> Session:
    """Load a file of ncnn, in float32, for batches of one image."""
    import ncnn
    import numpy as np

    net = ncnn.Net()
    for option in ('fp16_storage', 'fp16_arithmetic', 'fp16_packed', 'bf16_storage'):
        setattr(net.opt, f'use_{option}', False)
    if threads:
        net.opt.num_threads = threads
    if net.load_param(str(file)) or net.load_model(str(file.with_suffix('.bin'))):
        raise UserError(f'ncnn cannot load {file}. Try another version of ncnn')
    names = sorted(net.output_names())

    def run(images: Tensor) -> list[Tensor]:
        extractor = net.create_extractor()
        extractor.input('in0', ncnn.Mat(images[0].numpy()).clone())
        outputs = [torch.from_numpy(np.array(extractor.extract(name)[1])) for name in names]
        # pnnx keeps the batch dimension of some outputs.
        return [x if x.ndim == 3 and len(x) == 1 else x[None] for x in outputs]

    return run


def load_coreml(file: Path, *, threads: int = 0) -> Session:
    """Load a Core ML package; it predicts on macOS only."""
    import coremltools

    model = coremltools.models.MLModel(str(file))
    names = [output.name for output in model.get_spec().description.output]

    def run(images: Tensor) -> list[Tensor]:
        outputs = model.predict({'images': images.numpy()})
        return [torch.from_numpy(outputs[name]) for name in names]

    return run


LOADERS: dict[str, Callable[..., Session]] = dict(
    onnx=load_onnx,
    openvino=load_openvino,
    ncnn=load_ncnn,
    torchscript=load_torchscript,
    coreml=load_coreml,
)


# ---- comparing


def largest_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of outputs, relative to the largest value of each."""
    return max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item()
        for a, b in zip(outputs, expected, strict=True)
    )


def take_turns(
    functions: dict[Any, Callable[[], Any]],
    turns: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Any, list[float]]:
    """Call the functions in turns; return the seconds of each call, after one that does not count.

    On a machine with other load, compare times of the same turn, or use ``time.process_time``.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for turn in range(-1, turns):
        names = list(functions) if turn % 2 else list(reversed(functions))
        for name in names:
            start = clock()
            functions[name]()
            if turn >= 0:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over the turns of one time divided by the other."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))
