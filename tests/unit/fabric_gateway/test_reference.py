"""The reference is of the code as it is."""

import inspect

import fabric_gateway
from tools.packaging import reference


def test_the_reference_was_made_from_this_code() -> None:
    assert reference.FILE.read_text() == reference.text(), "run: python -m tools.packaging.reference"


def test_every_public_class_and_function_says_what_it_is() -> None:
    silent = [
        name
        for name in fabric_gateway.__all__
        if (inspect.isclass(found := getattr(fabric_gateway, name)) or inspect.isfunction(found))
        and not inspect.getdoc(found)
    ]
    assert silent == []
    assert all(
        f" {name}" in reference.text() or f"`{name}`" in reference.text() for name in fabric_gateway.__all__
    )
