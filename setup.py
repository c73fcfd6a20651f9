"""Metadata, requirements and the ``.mim`` folder of the package."""

import re
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LARGEST_WEIGHTS = 5e6  # bytes; finola_mm/engine/checkpoints/published_weights.py finds larger ones
ENVIRONMENT = runpy.run_path(str(ROOT / 'finola_mm/environment.py'))
DISTRIBUTIONS = ENVIRONMENT['DISTRIBUTIONS']


def version() -> str:
    """Read the version without importing the package, which requires a supported environment."""
    text = (ROOT / 'finola_mm' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)[1]


def supported(stack: str) -> list[str]:
    """Return requirements with the version ranges that ``import finola_mm`` checks.

    stack: 'onedl' or 'openmmlab'; '' for torch alone.
    """
    ranges = {known.name: f'>={known.minimum},<{known.below}' for known in DISTRIBUTIONS}
    return [f'{name}{ranges[name]}' for name in ENVIRONMENT['stack_packages'](stack)]


def left_out(folder: str, names: list[str]) -> list[str]:
    """Return the files of a folder that are not part of a wheel: byte code and large weights."""
    return [
        name
        for name in names
        if name == '__pycache__' or Path(folder, name).stat().st_size > LARGEST_WEIGHTS
    ]


def add_mim_extension(package: Path, symlink: bool) -> None:
    """Make the folder ``.mim`` of ``package``, where MMEngine looks up ``finola_mm::...`` configs.

    It contains links in an editable installation and copies in a wheel, without large weights.
    """
    mim = package / '.mim'
    shutil.rmtree(mim, ignore_errors=True)
    mim.mkdir(parents=True)
    for name in ('configs', 'demo', 'tools', 'model-index.yml'):
        if symlink:
            (mim / name).symlink_to(Path('..', '..', name))
        elif (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, mim / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, mim / name)


class BuildWithMim(build_py):
    """``build_py`` that adds ``.mim``: to the build folder of a wheel, or to an editable tree."""

    def run(self) -> None:
        super().run()
        parent = ROOT if self.editable_mode else Path(self.build_lib)
        add_mim_extension(parent / 'finola_mm', symlink=self.editable_mode)


ONNX = ['onnx', 'onnxruntime', 'onnxscript']
EXPORT = [*ONNX, 'openvino', 'ncnn', 'pnnx', 'coremltools']  # all formats of tools/deployment
TOOLS = ['grad-cam', 'scikit-learn']  # mmpretrain's CAM and t-SNE; tests compare with the latter

setup(
    name='finola_mm',
    version=version(),
    description='FINOLA and masked FINOLA (arXiv 2305.16319) on MMEngine, mmpretrain and mmdet',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    author='finola_mm contributors',
    license='Apache-2.0',
    keywords='self-supervised learning, masked image modelling, FINOLA, Mobile-Former, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    py_modules=['finola_cli'],
    entry_points=dict(console_scripts=['finola = finola_cli:main']),
    packages=find_packages(include=['finola_mm', 'finola_mm.*']),
    package_data={'finola_mm': ['py.typed', 'datasets/photos/*.csv']},
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.10',
    install_requires=[
        # The OpenMMLab packages are the extras: pip would install one stack over the other.
        *supported(''),
        'torchvision',
        'matplotlib',
        'numpy>=1.26',
        'pillow',
        'rich',
        'safetensors',
        'scikit-image',  # SSIM; its wheel contains the photographs of the demo's data set
        'scipy',
        'tensorboard',
    ],
    extras_require={
        'onedl': supported('onedl'),
        'openmmlab': supported('openmmlab'),
        'onnx': ONNX,
        'export': EXPORT,
        'hub': ['huggingface_hub>=0.30'],
        'supervision': ['supervision'],
        'timm': ['timm>=1.0'],
        'seg': ['onedl-mmsegmentation'],
        'dev': [
            *ONNX,
            *TOOLS,
            'huggingface_hub>=0.30',
            'timm',
            'mypy',
            'pytest',
            'pytest-xdist',
            'ruff',
            'pre-commit',
        ],
    },
    zip_safe=False,
)
