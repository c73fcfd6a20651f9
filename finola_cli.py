"""The command ``finola``: every tool of ``tools/`` by name, in a checkout and in a wheel.

It stands beside the package: ``import finola_mm`` takes most of a second, and raises an error in an
unsupported environment, which ``finola check env`` has to report. In a checkout that is not
installed, run ``python -m finola_cli``.
"""

import difflib
import os
import re
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE / 'finola_mm/.mim/tools', HERE / 'tools')  # of a wheel, of a checkout
TOOLS = next(folder for folder in FOLDERS if folder.is_dir())

# title -> command -> (file in tools/, what it does)
GROUPS = {
    'Training and evaluation': {
        'train': ('train.py', 'train a model'),
        'test': ('test.py', 'measure a checkpoint on the validation images'),
        'knn': ('analysis/knn.py', 'kNN and linear-probe accuracy of frozen encoders'),
        'configs': ('configs.py', 'list the configs of this package, or copy one'),
        'demo': ('demo.py', 'generate data, pre-train, test and detect, in 20 minutes on a CPU'),
    },
    'Several GPUs (docs/cluster.md)': {
        'dist_train': ('dist_train.sh', 'train on the GPUs of one or several machines'),
        'dist_test': ('dist_test.sh', 'test on several GPUs'),
        'slurm_train': ('slurm_train.sh', 'train on a SLURM cluster'),
        'slurm_test': ('slurm_test.sh', 'test on a SLURM cluster'),
    },
    'Pictures': {
        'reconstruct': ('visualization/reconstruct.py', 'reconstruct images'),
        'detect': ('visualization/detect.py', 'detect objects in images and videos'),
        'attention': ('visualization/attention.py', 'draw what a detector attends to'),
    },
    'Weights': {
        'extract': ('model_converters/extract_backbone.py', 'write the encoder of a checkpoint'),
        'publish': ('model_converters/publish_model.py', 'write the weights of a whole model'),
        'export': ('deployment/export.py', 'export as ONNX, OpenVINO, ncnn, TorchScript, Core ML'),
        'bench': ('deployment/bench.py', 'compare latency and agreement of these formats'),
        'convert': ('model_converters/mobile_former_to_finola.py', 'convert official weights'),
    },
    'Checks': {
        'check env': ('check/env.py', 'report missing or broken packages, with their remedy'),
        'check images': ('check/images.py', 'find unreadable images'),
        'check coco': ('check/coco.py', 'check COCO annotations and their images'),
        'check gpu': ('check/gpu.py', 'measure correctness and speed on a GPU'),
    },
    'Data': {
        'data shapes': ('dataset_converters/make_shapes.py', 'generate the data of the demos'),
        'data photos': ('dataset_converters/make_photos.py', 'make data sets of photographs'),
        'data crops': ('dataset_converters/crop_photographs.py', 'crop photographs of packages'),
        'data resize': ('dataset_converters/resize_images.py', 'resize a folder of images'),
        'data low_shot': ('dataset_converters/draw_low_shot.py', 'draw lists of a few labels'),
    },
    'Analysis': {
        'flops': ('analysis/get_flops.py', 'count parameters and multiply-adds'),
        'curvature': ('analysis/curvature.py', 'Gaussian curvature of the feature maps'),
        'residuals': ('analysis/residuals.py', 'how far the maps satisfy their equations'),
        'wave_speeds': ('analysis/wave_speeds.py', 'wave speeds of the learned matrices'),
        'embedding_space': ('analysis/embedding_space.py', 'the space of latent vectors'),
        'latent_baselines': ('analysis/latent_baselines.py', 'PCA, DCT and an autoencoder'),
    },
}
COMMANDS = {name: row for group in GROUPS.values() for name, row in group.items()}
BY_FILE = {file: name for name, (file, _) in COMMANDS.items()}


def main() -> None:
    """Run the command of ``sys.argv``."""
    words = sys.argv[1:]
    command = next((' '.join(words[:n]) for n in (2, 1) if ' '.join(words[:n]) in COMMANDS), None)
    if command:
        run(command, words[len(command.split()) :])
    elif not words or words[0] in ('-h', '--help'):
        print('usage: finola COMMAND [arguments]; finola COMMAND --help lists them')
        for title, group in GROUPS.items():
            print(f'\n{title}', *format_rows(group), sep='\n')
    elif words[1:] in ([], ['-h'], ['--help']) and (family := family_of(words[0])):
        print(f'usage: finola {words[0]} ...', *format_rows(family), sep='\n')
    else:
        given = ' '.join(words[: 2 if family_of(words[0]) else 1])
        near = difflib.get_close_matches(given, COMMANDS, 1, cutoff=0.5)
        hint = f'did you mean: finola {near[0]}? ' if near else ''
        raise SystemExit(f'finola: no command {given!r}; {hint}All of them: finola --help')


def family_of(word: str) -> list[str]:
    """Return the commands of two words that begin with ``word``."""
    return [command for command in COMMANDS if command.split()[:-1] == [word]]


def format_rows(commands) -> list[str]:
    return [f'  {command:18}{COMMANDS[command][1]}' for command in commands]


def run(command: str, args: list[str]) -> None:
    """Run a tool as Python runs a script, but under the name of the command."""
    file = TOOLS / COMMANDS[command][0]
    if file.suffix == '.sh':
        os.execve(file, [str(file), *args], {'PYTHON': sys.executable, **os.environ})
    sys.argv = [f'finola {command}', *args]  # argparse's name of the program
    sys.modules['__main__'] = script = ModuleType('__main__')
    script.__file__ = str(file)
    try:
        exec(compile(file.read_bytes(), file, 'exec'), vars(script))
    except KeyboardInterrupt:  # during the imports
        raise SystemExit(130) from None
    except SystemExit as error:
        if isinstance(error.code, str):
            raise SystemExit(name_commands(error.code, file.stem, command)) from None
        raise


def name_commands(message: str, tool: str, command: str) -> str:
    """Replace names of tools in a message of ``tool`` by commands."""
    message = re.sub(f'^{tool}: ', f'finola {command}: ', message)
    for file, name in BY_FILE.items():
        message = re.sub(f'(python )?(?<!/)tools/{file}', f'finola {name}', message)
    return message


if __name__ == '__main__':
    main()
