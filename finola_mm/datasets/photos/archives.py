"""Read files out of Debian packages, wheels and Qt resource files, without unpacking them to disk.

Each function returns only the files that were asked for and exist, as {path: content}.
"""

import io
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from ...errors import UserError


def read_deb(file: Path, paths: Collection[str]) -> dict[str, bytes]:
    """Read files of a Debian package with ``dpkg-deb``.

    A path that continues inside a Qt resource file, such as ``usr/share/a.rcc/b/c.webp``, is read
    from there.

    Raises:
        UserError: dpkg-deb is not installed, or the package is damaged.
    """
    resources: dict[str, set[str]] = {}  # of each .rcc file
    for path in paths:
        outer, inside, inner = path.partition('.rcc/')
        if inside:
            resources.setdefault(f'{outer}.rcc', set()).add(inner)
    found: dict[str, bytes] = {}
    try:
        command = ['dpkg-deb', '--fsys-tarfile', str(file)]
        tar = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    except FileNotFoundError:
        raise UserError(
            f'dpkg-deb is required to read {file}; it is part of Debian and its derivatives'
        ) from None
    except subprocess.CalledProcessError:
        raise UserError(f'{file} is damaged. Delete it and run the command again') from None
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        for member in members:
            name = member.name.removeprefix('./')
            if name in resources or name in paths:
                stream = members.extractfile(member)
                assert stream is not None  # a regular file
                content = stream.read()
                if name in resources:
                    unpacked = read_rcc(content, resources[name])
                    found |= {f'{name}/{path}': data for path, data in unpacked.items()}
                else:
                    found[name] = content
    return found


def read_wheel(file: Path, paths: Collection[str]) -> dict[str, bytes]:
    """Read files of a wheel."""
    with zipfile.ZipFile(file) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if name in paths}


def read_rcc(data: bytes, paths: Collection[str]) -> dict[str, bytes]:
    """Read files of a Qt resource file (.rcc), stored plainly or with zlib.

    The format is that of Qt's ``rcc --binary``, versions 1 to 3, all numbers big-endian:

    * header: 'qres', version, offsets of the tree, of the data and of the names;
    * tree: nodes of 14 bytes (22 from version 2, which adds a time): offset of the name, flags
      (1: zlib, 2: folder, 4: zstandard), then the number of children and the index of the first
      for a folder, or the country, the language and the offset of the data for a file;
    * names: length, hash, UTF-16;
    * data: length, content; compressed content starts with its uncompressed length.

    Raises:
        UserError: the file is of another format, or a file asked for is stored with zstandard.
    """
    if data[:4] != b'qres':
        raise UserError(f'expected a Qt resource file, which starts with qres, got {data[:4]!r}')
    version, tree, contents, names = struct.unpack_from('>4I', data, 4)
    step = 14 if version < 2 else 22

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        start = tree + node * step
        name, flags = struct.unpack_from('>IH', data, start)
        path = folder
        if node:  # the root has no name
            (length,) = struct.unpack_from('>H', data, names + name)
            text = names + name + 6
            path += data[text : text + 2 * length].decode('utf-16-be')
        if flags & 2:
            count, first = struct.unpack_from('>2I', data, start + 6)
            for child in range(first, first + count):
                yield from walk(child, f'{path}/' if path else '')
        elif path in paths:
            (offset,) = struct.unpack_from('>I', data, start + 10)
            (length,) = struct.unpack_from('>I', data, contents + offset)
            content = data[contents + offset + 4 : contents + offset + 4 + length]
            if flags & 4:
                raise UserError(f'{path} is compressed with zstandard, which is not supported')
            yield path, zlib.decompress(content[4:]) if flags & 1 else content

    return dict(walk(0, ''))
