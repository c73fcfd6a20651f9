"""Orientation, depth and size of images against NumPy, for every format that Pillow can write."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from finola_mm.datasets import LoadImageFromFile, LoadRandomResizedCrop, decoding
from finola_mm.datasets.decoding import decode, read_orientation, read_size
from finola_mm.datasets.validation import check_image
from finola_mm.errors import UserError
from tests.messages import shows

HEIGHT, WIDTH = 48, 80
UPRIGHT = np.kron(  # (48, 80, 3) BGR: 15 blocks of different colours
    np.random.default_rng(0).integers(0, 256, (3, 5, 3)), np.ones((16, 16, 1))
).astype(np.uint8)
UPRIGHT[0, :2] = [[0], [255]]

# Orientation -> the stored image of an upright one, by the definition of the EXIF standard: where
# its row 0 and its column 0 are.
STORED = {
    1: lambda image: image,  # top, left
    2: lambda image: image[:, ::-1],  # top, right
    3: lambda image: image[::-1, ::-1],  # bottom, right
    4: lambda image: image[::-1],  # bottom, left
    5: lambda image: image.transpose(1, 0, 2),  # left, top
    6: lambda image: image[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda image: image[::-1].transpose(1, 0, 2),  # left, bottom
}
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {}</rdf:RDF>'
    '</x:xmpmeta>'
)
FORMS = {
    'attribute': 'tiff:Orientation="{}"/>',
    'element': '><tiff:Orientation>{}</tiff:Orientation></rdf:Description>',
}
LOSSLESS = {'png': {}, 'tiff': {}, 'webp': dict(lossless=True)}
FORMATS = ['jpeg', 'png', 'webp', 'tiff']
if 'avif' in features.modules and features.check('avif') and cv2.haveImageWriter('.avif'):
    FORMATS.append('avif')


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data


def xmp_options(name, text):
    if name == 'png':
        info = PngImagePlugin.PngInfo()
        info.add_itxt('XML:com.adobe.xmp', text)
        return dict(pnginfo=info)
    return dict(tiffinfo={700: text.encode()}) if name == 'tiff' else dict(xmp=text.encode())


def write(image, name, **options):
    """Encode a BGR image by Pillow."""
    buffer = io.BytesIO()
    options = LOSSLESS.get(name, dict(quality=95)) | options
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(buffer, name, **options)
    return buffer.getvalue()


def check(data, expected, *, tolerance):
    image, problem = decode(data, 'image')
    assert image.shape == expected.shape and image.dtype == np.uint8 and problem is None
    assert np.abs(image.astype(int) - expected).mean() <= tolerance  # others differ by 80
    assert read_size(data, 'image') == expected.shape[:2]


@pytest.mark.parametrize('orientation', STORED)
@pytest.mark.parametrize('where', ['exif', *FORMS])
@pytest.mark.parametrize('name', FORMATS)
def test_every_orientation_of_every_format(name, where, orientation):
    if where == 'exif':
        options = dict(exif=exif(orientation))
    else:
        options = xmp_options(name, XMP.format(FORMS[where].format(orientation)))
    data = write(STORED[orientation](UPRIGHT), name, **options)
    assert read_orientation(data) == orientation
    check(data, UPRIGHT, tolerance=0 if name in LOSSLESS else 8)


@pytest.mark.parametrize('reduction', [1, 2, 4, 8])
@pytest.mark.parametrize('orientation', STORED)
def test_turned_jpegs_are_those_of_opencv(orientation, reduction):
    data = write(np.kron(UPRIGHT, np.ones((4, 4, 1), np.uint8)), 'jpeg', exif=exif(orientation))
    flag = decoding.DECODE_FLAGS[reduction] & ~cv2.IMREAD_ANYDEPTH
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    assert np.array_equal(decode(data, 'image', reduction=reduction)[0], expected)


@pytest.mark.parametrize('name', FORMATS)
def test_exif_takes_precedence_over_xmp(name):
    text = XMP.format(FORMS['element'].format(3))
    options = xmp_options(name, text)
    options.setdefault('tiffinfo', {})[274] = 6
    data = write(STORED[6](UPRIGHT), name, exif=exif(6), **options)
    assert read_orientation(data) == 6


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('orientation', [0, 9, 255])
def test_invalid_values_mean_upright(name, orientation):
    if name != 'avif':  # Pillow refuses them there
        check(write(UPRIGHT, name, exif=exif(orientation)), UPRIGHT, tolerance=8)
    text = XMP.format(FORMS['attribute'].format(orientation))
    check(write(UPRIGHT, name, **xmp_options(name, text)), UPRIGHT, tolerance=8)


def test_a_truncated_exif_means_upright():
    for data in (b'Exif\0\0II*\0\x08', b'Exif\0\0MM\0*\xff\xff\xff\xff', b'Exif\0\0'):
        check(write(UPRIGHT, 'jpeg', exif=data), UPRIGHT, tolerance=8)


@pytest.mark.parametrize('kind', ['H', 'I'])
@pytest.mark.parametrize('order', ['<', '>'])
def test_byte_orders_and_types(order, kind):
    """EXIF as written by hand: one tag, of type SHORT or LONG."""
    start = b'II*\0' if order == '<' else b'MM\0*'
    entry = struct.pack(f'{order}HHI{kind}', 274, {'H': 3, 'I': 4}[kind], 1, 8)
    data = start + struct.pack(f'{order}IH', 8, 1) + entry.ljust(12, b'\0') + bytes(4)
    check(write(STORED[8](UPRIGHT), 'jpeg', exif=b'Exif\0\0' + data), UPRIGHT, tolerance=8)


def test_exif_after_the_pixels_of_a_png():
    data = write(STORED[6](UPRIGHT), 'png', exif=exif(6))
    start = data.index(b'eXIf') - 4
    end = start + 12 + struct.unpack_from('>I', data, start)[0]
    last = data.index(b'IEND') - 4
    moved = data[:start] + data[end:last] + data[start:end] + data[last:]
    assert moved.index(b'IDAT') < moved.index(b'eXIf')
    check(moved, UPRIGHT, tolerance=0)


def test_the_thumbnail_has_no_say():
    """EXIF of a thumbnail, after that of the image, and a marker of another use."""
    data = write(STORED[6](UPRIGHT), 'jpeg', exif=exif(6))
    other = b'\xff\xe1' + struct.pack('>H', 2 + 40) + b'http://ns.adobe.com/other/'.ljust(40, b'\0')
    nested = write(UPRIGHT, 'jpeg', exif=exif(3))[2:200]
    photoshop = b'\xff\xed' + struct.pack('>H', 2 + len(nested)) + nested
    check(data[:2] + other + photoshop + data[2:], UPRIGHT, tolerance=8)


@pytest.mark.parametrize('extension', ['.jpg', '.png', '.webp', '.tiff', '.bmp', '.ppm', '.jp2'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_8_bit_images_are_those_of_opencv(extension, channels):
    image = np.dstack([UPRIGHT, UPRIGHT[..., :1]])[..., :channels]
    if channels == 4 and extension in ('.jpg', '.ppm', '.jp2'):
        pytest.skip('the format has no alpha channel')
    extension = '.pgm' if (extension, channels) == ('.ppm', 1) else extension
    data = cv2.imencode(extension, np.kron(image, np.ones((2, 2, 1), np.uint8)))[1]
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert np.array_equal(decode(data.tobytes(), 'image')[0], expected)


def deep(extension, values):
    return cv2.imencode(extension, values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()


@pytest.mark.parametrize('layout', ['grey', 'colour', 'alpha'])
@pytest.mark.parametrize(
    ('kind', 'white', 'extension'),
    [
        *(('uint16', white, '.png') for white in (255, 1023, 4095, 16383, 65535)),
        *(('uint16', white, '.tiff') for white in (4095, 65535)),
        *(('int16', white, '.tiff') for white in (1023, 16383)),
        *(('int32', white, '.tiff') for white in (255, 65535)),
        *(('float32', white, '.tiff') for white in (1, 255, 4095, 65535)),
        *(('float64', white, '.tiff') for white in (1, 1023)),
        ('uint16', 4095, '.ppm'),
        ('float32', 1, '.pfm'),
        ('float32', 255, '.pfm'),
    ],
)
def test_deep_images_equal_the_8_bit_original(kind, white, extension, layout):
    if layout == 'alpha' and extension in ('.ppm', '.pfm'):
        pytest.skip('the format has no alpha channel')
    values = UPRIGHT / 255 * white
    values = (values if kind.startswith('float') else values.round()).astype(kind)
    if layout == 'grey':
        values = values[..., 1]
    elif layout == 'alpha':
        values = np.dstack([values, np.full_like(values[..., 0], white)])
    extension = '.pgm' if (extension, layout) == ('.ppm', 'grey') else extension
    image, problem = decode(deep(extension, values), 'image')
    expected = UPRIGHT[..., [1, 1, 1]] if layout == 'grey' else UPRIGHT
    assert image.shape == expected.shape and image.dtype == np.uint8 and problem is None
    assert np.abs(image.astype(int) - expected).max() <= (1 if white < 65535 else 0)


@pytest.mark.parametrize('orientation', STORED)
@pytest.mark.parametrize('kind', ['uint16', 'float32'])
def test_deep_tiffs_are_turned(kind, orientation):
    """OpenCV turns a TIFF by itself; Pillow writes the tag, and OpenCV the pixels."""
    values = np.ascontiguousarray(STORED[orientation](UPRIGHT)[..., 1]).astype(kind)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, 'tiff', tiffinfo={274: orientation})
    check(buffer.getvalue(), UPRIGHT[..., [1, 1, 1]], tolerance=0)


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'float32'])
def test_white_may_be_zero(kind):
    """Photometric interpretation 0, changed in the file."""
    values = UPRIGHT[..., 1].astype(kind)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, 'tiff')
    black_is_zero = struct.pack('<HHIHH', 262, 3, 1, 1, 0)
    data = buffer.getvalue()
    assert data.count(black_is_zero) == 1
    image, _ = decode(data.replace(black_is_zero, struct.pack('<HHIHH', 262, 3, 1, 0, 0)), 'image')
    assert np.array_equal(image, 255 - UPRIGHT[..., [1, 1, 1]])


def test_deep_planes_are_refused():
    """OpenCV 4.12 returns memory that it has not written."""
    data = deep('.tiff', UPRIGHT.astype(np.uint16) * 257)
    decode(data, 'image')
    contiguous, planes = (struct.pack('<HHIHH', 284, 3, 1, n, 0) for n in (1, 2))
    assert data.count(contiguous) == 1
    with pytest.raises(UserError, match='image'):
        decode(data.replace(contiguous, planes), 'image')


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('big', [False, True])
def test_byte_order_and_size_of_offsets(kind, order, big):
    """Grey and transparent files of another writer, turned; BigTIFF is for files above 4 GB."""
    tifffile = pytest.importorskip('tifffile')
    values = np.dstack([UPRIGHT[..., ::-1], np.full((HEIGHT, WIDTH, 1), 255)]).astype(kind)
    for channels in (1, 3, 4):
        buffer = io.BytesIO()
        stored = STORED[6](values[..., :channels])
        options = dict(photometric='rgb') if channels > 1 else dict(photometric='minisblack')
        options['extratags'] = [(274, 3, 1, 6, True)]
        if channels == 4:
            options['extrasamples'] = ['unassalpha']
        stored = stored if channels > 1 else stored[..., 0]
        tifffile.imwrite(buffer, stored, byteorder=order, bigtiff=big, **options)
        check(buffer.getvalue(), UPRIGHT if channels > 1 else UPRIGHT[..., [2, 2, 2]], tolerance=0)


def test_full_scale_is_the_smallest_that_holds_the_maximum():
    def brightest(kind, maximum, **options):
        values = np.linspace(0, maximum, 300).reshape(10, 30).astype(kind)
        return decode(deep('.tiff', values), 'image', **options)[0].max()

    for maximum, white in ((200, 255), (900, 1023), (3000, 4095), (30000, 65535)):
        for kind in ('uint16', 'float32'):
            assert abs(brightest(kind, maximum) - 255 * maximum / white) <= 1
    assert brightest('float32', 0.5) == 128
    assert brightest('float32', 1.3) == brightest('uint16', 4200) == 255  # overshoot
    assert brightest('float32', 1e6) == brightest('int32', 10**6) == 255
    assert brightest('uint16', 1000, full_scale=4000) == 64


@pytest.mark.parametrize(
    ('change', 'seen'),
    [
        (lambda v: v - 0.5, '-0.5'),
        (lambda v: np.where(v > 0.9, np.nan, v), 'NaN'),
        (lambda v: np.where(v > 0.9, np.inf, v), 'infinite'),
        (lambda v: v * 1e6, '1e+06'),
        (lambda v: v * 9, '9'),  # read with 255 as white: black
        (lambda v: v * 1000 + 64000, '65000'),
        (lambda v: v * 0, '0 to 0'),
        (lambda v: v + np.nan, 'NaN'),
    ],
)
def test_implausible_ranges_are_told(change, seen):
    values = np.linspace(0, 1, 300).reshape(10, 30)
    with np.errstate(all='ignore'):
        data = deep('.tiff', change(values).astype(np.float32))
    image, problem = decode(data, 'image')
    assert seen in problem
    assert image.shape == (10, 30, 3)


def test_undefined_values():
    values = np.array([[np.nan, np.inf, -np.inf, 0.5, 1, -1]] * 4, np.float32)
    assert decode(deep('.tiff', values), 'image')[0][0, :, 0].tolist() == [0, 255, 0, 128, 255, 0]


@pytest.mark.parametrize('data', [b'', b'no image', write(UPRIGHT, 'png')[:60]])
def test_what_is_no_image(data):
    with pytest.raises(UserError, match=shows('image', len(data))):
        decode(data, 'image')


def test_images_above_the_limit_of_pillow(monkeypatch):
    """A limit of 1000 pixels instead of 179 megapixels; larger images raise in Pillow."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    for name in FORMATS:
        data = write(STORED[6](UPRIGHT), name, exif=exif(6))
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(data))
        check(data, UPRIGHT, tolerance=8)


def test_size_of_a_jpeg_header():
    """Fill bytes, a progressive file, and headers without a size."""
    data = write(STORED[6](UPRIGHT), 'jpeg', exif=exif(6), progressive=True)
    assert read_size(data[:2] + b'\xff\xff' + data[2:], 'image') == (HEIGHT, WIDTH)
    pixels = data.index(b'\xff\xda')
    assert read_size(data[: pixels + 9], 'image') == (HEIGHT, WIDTH)
    for end in (20, pixels):
        with pytest.raises(UserError, match=shows('image', end)):
            read_size(data[:end], 'image')


@pytest.fixture
def turned(tmp_path):
    path = tmp_path / 'turned.webp'
    path.write_bytes(write(STORED[6](UPRIGHT), 'webp', exif=exif(6)))
    return path


def test_readers_agree_on_a_turned_file(turned):
    results = LoadImageFromFile()(dict(img_path=str(turned)))
    assert np.array_equal(results['img'], UPRIGHT)
    assert results['img_shape'] == results['ori_shape'] == (HEIGHT, WIDTH)
    crop = LoadRandomResizedCrop((HEIGHT, WIDTH), (1, 1), aspect_ratio_range=(5 / 3, 5 / 3))
    assert np.array_equal(crop(dict(img_path=str(turned)))['img'], UPRIGHT)
    record = dict(file_name=turned.name, width=WIDTH, height=HEIGHT)
    assert check_image(record, turned.parent) is None
    stored = dict(file_name=turned.name, width=HEIGHT, height=WIDTH)
    assert 'XMP' in check_image(stored, turned.parent)


def test_the_range_is_logged_once(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(decoding, 'print_log', lambda message, **_: messages.append(message))
    load = LoadImageFromFile()
    for i in range(3):
        (tmp_path / f'{i}.tif').write_bytes(deep('.tiff', np.full((9, 9), 60000, np.uint16)))
        load(dict(img_path=str(tmp_path / f'{i}.tif')))
    (message,) = messages
    assert f'{tmp_path}/0.tif' in message and '60000' in message and 'full_scale' in message


def test_full_scale_of_the_loader(tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(deep('.png', np.full((9, 9), 1000, np.uint16)))
    load = LoadImageFromFile(full_scale=4000)
    assert load(dict(img_path=str(path)))['img'].max() == 64
    with pytest.raises(UserError, match='-1'):
        LoadImageFromFile(full_scale=-1)


def test_an_image_that_an_inferencer_has_loaded():
    results = dict(img=UPRIGHT, img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))
    assert LoadImageFromFile()(dict(results)) == results
