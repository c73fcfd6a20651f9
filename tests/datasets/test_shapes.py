"""The rendering of the small scenes against geometry computed for each pixel in float64."""

import numpy as np
import pytest

from finola_mm.datasets import shapes
from finola_mm.datasets.shape_classes import (
    NAMES,
    OUTLINES,
    PATCH,
    PHOTOGRAPHS,
    load_photographs,
    surface,
)
from tests.messages import shows


@pytest.fixture(scope='module')
def photographs():
    return load_photographs('train')


def rng(*key):
    return np.random.default_rng(key)


def edges(scene_object):
    """Start and end points (E, 2) of the outline in the image, by the definition of the pose."""
    cos, sin = np.cos(scene_object.angle), np.sin(scene_object.angle)
    begins, ends = [], []
    for ring in OUTLINES[shapes.NAMES[scene_object.label]]:
        u, v = ring[:, 0] * scene_object.stretch, ring[:, 1]
        points = (
            np.stack([cos * u - sin * v, sin * u + cos * v], 1) * scene_object.radius
            + scene_object.centre
        )
        begins.append(points)
        ends.append(np.roll(points, -1, axis=0))
    return np.concatenate(begins), np.concatenate(ends)


def inside_and_distance(scene_object, size):
    """Per pixel centre: inside by the crossings of a ray; distance to the outline in pixels."""
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5).reshape(2, -1, 1)  # (HW, 1)
    (x0, y0), (x1, y1) = (points.T[:, None] for points in edges(scene_object))  # (1, E)
    with np.errstate(divide='ignore', invalid='ignore'):
        crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    length = (x1 - x0) ** 2 + (y1 - y0) ** 2
    t = (((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / np.maximum(length, 1e-12)).clip(0, 1)
    distance = np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)).min(1)
    return (crosses.sum(1) % 2 == 1).reshape(size), distance.reshape(size)


@pytest.mark.parametrize('label', range(len(shapes.NAMES)), ids=shapes.NAMES)
def test_mask_is_the_outline(label, photographs):
    scene = shapes.single_object_scene(rng(1, label), 96, label)
    drawing = shapes.draw(scene, photographs)
    assert drawing.labels.tolist() == [label]
    inside, distance = inside_and_distance(scene.objects[0], scene.size)
    # The rules "more than half covered" and "centre inside" differ only where the outline is within
    # half a pixel of the centre; for a mask shifted by (0.5, 0.5) they differ within 0.7.
    assert distance[drawing.masks[0] != inside].max(initial=0) < 0.5


@pytest.mark.parametrize('seed', range(12))
def test_nearer_objects_hide_farther_ones(seed, photographs):
    scene = shapes.multi_object_scene(rng(2, seed), (90, 120))
    drawing = shapes.draw(scene, photographs)
    alone = [
        shapes.draw(scene._replace(objects=(scene_object,)), photographs)
        for scene_object in scene.objects
    ]
    # From the front: the visible part of each, by definition.
    taken, expected = np.zeros(scene.size, bool), []
    for single in reversed(alone):
        whole = single.masks[0]
        visible = whole & ~taken
        if visible.sum() > shapes.HIDDEN * whole.sum():
            expected.append((single.labels[0], visible))
            taken |= whole
    expected = expected[::-1]
    assert drawing.labels.tolist() == [label for label, _ in expected]
    np.testing.assert_array_equal(drawing.masks, [visible for _, visible in expected])
    assert drawing.masks.sum(0).max() == 1  # no pixel shows two objects
    for mask, (x, y, width, height) in zip(drawing.masks, drawing.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())


def test_fully_hidden_object_is_dropped(photographs):
    scene = shapes.single_object_scene(rng(3), 96, shapes.NAMES.index('ball'))
    ball = scene.objects[0]
    star = ball._replace(label=shapes.NAMES.index('star'), radius=0.8 * ball.radius)
    hidden = shapes.draw(scene._replace(objects=(star, ball)), photographs)
    without = shapes.draw(scene, photographs)
    assert hidden.labels.tolist() == [ball.label]
    np.testing.assert_array_equal(hidden.image, without.image)
    # In the other order both are visible.
    both = shapes.draw(scene._replace(objects=(ball, star)), photographs)
    assert both.labels.tolist() == [ball.label, star.label]


def test_scene_without_objects(photographs):
    drawing = shapes.draw(
        shapes.single_object_scene(rng(4), 64, 0)._replace(objects=()), photographs
    )
    assert drawing.masks.shape == (0, 64, 64)
    assert drawing.boxes.shape == (0, 4)


def test_drawing_is_a_function_of_the_scene(photographs):
    first, second = (
        shapes.draw(shapes.multi_object_scene(rng(5), (80, 60)), photographs) for _ in range(2)
    )
    assert first.image.shape == (80, 60, 3)
    assert first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, second.image)
    other = shapes.draw(shapes.multi_object_scene(rng(6), (80, 60)), photographs)
    assert (first.image != other.image).any()


def test_only_outline_and_surface_depend_on_the_class():
    """Colours, pose, background and light are the same for all classes."""
    scenes = [shapes.single_object_scene(rng(7), 96, label) for label in range(len(shapes.NAMES))]
    assert len({repr(s._replace(objects=(s.objects[0]._replace(label=0),))) for s in scenes}) == 1
    assert [scene.objects[0].label for scene in scenes] == list(range(len(shapes.NAMES)))


@pytest.mark.parametrize('name', NAMES)
def test_surfaces_are_grey_pictures_with_a_pattern(name, photographs):
    patches = np.stack([surface(name, rng(8, i), photographs) for i in range(4)])
    assert patches.shape == (4, PATCH, PATCH)
    assert patches.min() >= 0
    assert patches.max() <= 1
    assert (patches.std((1, 2)) > 0.1).all()  # not flat
    np.testing.assert_array_equal(patches[0], surface(name, rng(8, 0), photographs))


def test_train_and_val_crop_different_parts_of_the_photographs():
    train, val = load_photographs('train'), load_photographs('val')
    for name, (*_, train_box, val_box, (_, largest)) in PHOTOGRAPHS.items():
        for regions, (x0, y0, x1, y1) in ((train, train_box), (val, val_box)):
            assert regions[name].shape == (y1 - y0, x1 - x0)
            assert largest <= min(regions[name].shape)
        apart = [
            a[i + 2] < b[i] for i in (0, 1) for a, b in ((train_box, val_box), (val_box, train_box))
        ]
        assert any(apart), name
    with pytest.raises(ValueError, match=shows("'train'", "'val'", "'test'")):
        load_photographs('test')
