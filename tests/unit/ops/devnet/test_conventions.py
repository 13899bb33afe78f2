"""docs/conventions.md names every field that a service does not start without."""

import importlib
import re

import pytest

from ops.devnet.layout import ROOT
from ops.devnet.topology import SERVICES

PAGE = (ROOT / "docs" / "conventions.md").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_every_required_field_of_a_service_is_on_the_page(service: str) -> None:
    module = importlib.import_module(f"services.{service}.config")
    fields = getattr(module, f"{service.capitalize()}Config").model_fields
    of_all = PAGE.split("Fields that all have:")[1].split("The common name of a service's")[0]
    [of_one] = re.findall(rf"^\| {service} \| (.*) \|$", PAGE, re.MULTILINE)
    missing = [name for name, field in fields.items() if field.is_required() and name not in of_all + of_one]
    assert missing == []
