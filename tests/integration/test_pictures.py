"""The drawings of products: whatever a word names is there, and each is coloured."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from inventory import pictures
from inventory.selectors import ProductView


def product(picture: str) -> ProductView:
    return ProductView(
        sku="SKU",
        name="Something",
        description="",
        category="other",
        category_name="Other",
        price=1,
        currency="EUR",
        picture=picture,
        active=True,
        available=1,
    )


@pytest.mark.parametrize("word", sorted(pictures.NOUNS))
def test_whatever_an_operator_names_is_drawn_in_the_colour_that_they_name(word: str) -> None:
    drawn = pictures.render(product(f"blue {word}"))

    assert drawn != pictures.render(product(f"red {word}"))
    assert f'fill="hsl({pictures.HUES["blue"]} ' in drawn


def test_every_family_of_products_has_its_drawings() -> None:
    named = {thing for _, things in pictures.FAMILIES.values() for thing in things}
    assert named <= set(pictures.THINGS)


@pytest.mark.parametrize("file", sorted(pictures.FOLDER.glob("*.svg")), ids=lambda file: file.stem)
def test_drawing_is_an_image_of_the_usual_size_in_the_hues_that_are_replaced(file: Path) -> None:
    root = ElementTree.parse(file).getroot()  # noqa: S314  (our own file)
    assert (root.tag, root.get("viewBox")) == ("{http://www.w3.org/2000/svg}svg", "0 0 320 240")
    assert set(re.findall(r"hsl\((\d+)", file.read_text())) <= set(pictures.DRAWN_IN)
