"""A correct COCO file, and changes to it."""

CLASSES = ('cup', 'dog', 'kite')


def right() -> dict:
    """40 images of 100 x 80, five objects each; ids as in COCO, with gaps."""
    images = [dict(id=10 + 3 * i, file_name=f'{i}.jpg', width=100, height=80) for i in range(40)]
    annotations = [
        dict(
            id=i,
            image_id=images[i % 40]['id'],
            category_id=(1, 2, 5)[i % 3],
            iscrowd=0,
            bbox=[1.0 + i / 10, 2.0, 30.0, 40.5],
            area=900.0,
            segmentation=[[1, 2, 3, 4, 5, 6]],
        )
        for i in range(200)
    ]
    categories = [dict(id=i, name=name) for i, name in zip((1, 2, 5), CLASSES, strict=True)]
    return dict(images=images, annotations=annotations, categories=categories)


def change(records, field, function):
    """Make a function that changes a field of all records."""

    def apply(content):
        for record in content[records]:
            record[field] = function(record[field])

    return apply


def set_first(records, number=1, **fields):
    def apply(content):
        for record in content[records][:number]:
            record.update(fields)

    return apply


def counts(*numbers):
    """A pattern for whole numbers in any order."""
    return ''.join(rf'(?=.*\b{number}\b)' for number in numbers)
