"""Whether some bytes are a FHIR R4 resource as JSON (http://hl7.org/fhir/R4/json.html).

A refusal names the place (`Observation.component[1].code`) and the rule, never a value: what is in a
resource is nobody's business but the reader's.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, cast

import orjson
from jsonschema_rs import Draft6Validator, ValidationError, ValidationErrorKind

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import json_text
from cbmdhi.protocol import resource as resources
from services.gateway.domain.fhir_schema import ResourceSchemas
from services.runtime.refusal import Refused

MAX_CONTENT_BYTES = 16 * 1024 * 1024
_MOST_RESOURCES = 10_000
_MOST_ERRORS = 50
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
_SENTENCES = {
    "type": "has a JSON type that this element cannot have",
    "enum": "is not in the element's value set",
    "const": "is not the value that it must be",
    "pattern": "does not have the form of its data type",
}


class ResourceChecker:
    """Checks resources. A type's validator is made when it is first needed (about 5 ms), and kept."""

    def __init__(self, schemas: ResourceSchemas) -> None:
        self._schemas = schemas
        self._validators: dict[str, Draft6Validator] = {}

    def check(self, content: bytes) -> str:
        """The resource type of a valid resource. Raises Refused INVALID or TOO_LARGE with the path."""
        return str(self.read(content)["resourceType"])

    def read(self, content: bytes) -> dict[str, Any]:
        """A valid resource. Raises Refused INVALID or TOO_LARGE with the path."""
        resource = parse(content)
        resource_type = self._check_one(resource, "")
        inside = list(resources.inside(resource, resource_type))
        seen = 0
        while inside:
            path, found = inside.pop()
            seen += 1
            if seen > _MOST_RESOURCES:
                raise _too_large(f"has over {_MOST_RESOURCES} resources inside it; send them one by one")
            self._check_one(found, path)
            inside.extend(resources.inside(found, path))
        return resource

    def _check_one(self, resource: Any, path: str) -> str:
        if not isinstance(resource, dict):
            raise _invalid(path or "content", "is not a JSON object, as a resource is")
        members = cast("dict[str, Any]", resource)
        resource_type = members.get("resourceType")
        where = path or (resource_type if resource_type in self._schemas.types else "resource")
        if not isinstance(resource_type, str):
            raise _invalid(f"{where}.resourceType", "is missing; it names the FHIR R4 resource type")
        if resource_type not in self._schemas.types:
            raise _invalid(f"{where}.resourceType", "is not a FHIR R4 resource type")
        validator = self._validator(resource_type)
        if not validator.is_valid(members):
            found = list(islice(validator.iter_errors(members), _MOST_ERRORS))
            real = [error for error in found if not _is_placeholder(error, members)]
            if real or len(found) == _MOST_ERRORS:
                raise _refusal(max(real or found, key=lambda error: len(error.instance_path)), where)
        return resource_type

    def _validator(self, resource_type: str) -> Draft6Validator:
        if resource_type not in self._validators:
            self._validators[resource_type] = Draft6Validator(self._schemas.of_type(resource_type))
        return self._validators[resource_type]


def parse(content: bytes) -> Any:
    """What the content says, for whoever only looks: its numbers are not for reckoning. Raises Refused."""
    if len(content) > MAX_CONTENT_BYTES:
        raise _too_large(f"is over {MAX_CONTENT_BYTES} bytes (16 MiB); send a smaller resource")
    try:
        parsed = orjson.loads(content)
        # As many brackets as levels at least: most resources need no walk.
        if content.count(b"{") + content.count(b"[") > json_text.MAX_DEPTH:
            json_text.check_depth(parsed)
        # What comes out again to the byte is what every reader sees, but for a NUL.
        if b"\\u0000" in content or orjson.dumps(parsed) != content:
            json_text.parse(content)
    except orjson.JSONDecodeError as error:
        raise _not_json(content) from error
    except json_text.NotJson as error:
        raise _as_refusal(error) from error
    return parsed


def _not_json(content: bytes) -> Refused:
    try:
        json_text.parse(content)
    except json_text.NotJson as error:
        return _as_refusal(error)
    return _invalid("content", "is not JSON in UTF-8")


def _as_refusal(error: json_text.NotJson) -> Refused:
    return (_too_large if isinstance(error, json_text.TooDeep) else _not_read)(str(error))


def _not_read(what: str) -> Refused:
    return _invalid("content", what)


def _is_placeholder(error: ValidationError, resource: dict[str, Any]) -> bool:
    """A null that keeps a place in a list of primitives or in its twin of extensions (json.html#null).

    HL7's schema does not know them.
    """
    *way, name, index = [None, None, *error.instance_path]
    if error.instance is not None or not isinstance(index, int) or not isinstance(name, str):
        return False
    holder: Any = resource
    for step in way[2:]:
        holder = holder[step]
    twin = name[1:] if name.startswith("_") else f"_{name}"
    beside: Any = holder.get(twin)
    return isinstance(beside, list) and index < len(cast("list[Any]", beside)) and beside[index] is not None


def _refusal(error: ValidationError, start: str) -> Refused:
    path = start + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path
    )
    match error.kind:
        case ValidationErrorKind.AdditionalProperties(unexpected=unexpected):
            # A name that cannot be an element's may be anything, a person's name included.
            if unexpected and _NAME.fullmatch(unexpected[0]):
                return _invalid(f"{path}.{unexpected[0]}", "is not an element that FHIR R4 knows here")
            return _invalid(path, "has an element that FHIR R4 does not know")
        case ValidationErrorKind.Required(property=name):
            return _invalid(f"{path}.{name}", "is required and missing")
        case ValidationErrorKind.AnyOf(context=context):
            return _invalid(f"{path}.{_wanted(context)}", "is required and missing")
        case ValidationErrorKind.OneOfNotValid(context=context):
            return _invalid(f"{path}.{_wanted(context)}", "is required and missing; give one of its types")
        case ValidationErrorKind.OneOfMultipleValid():
            return _invalid(path, "has a choice of type ([x]) given twice; give one")
        case kind:
            return _invalid(
                path, _SENTENCES.get(kind.name, f"breaks the rule `{kind.name}` of its definition")
            )


def _wanted(context: list[list[ValidationError]]) -> str:
    """What a rule of `fhir_schema` asked for: `status`, or `medication[x]` for a choice."""
    names: list[str] = []
    waiting = [error for branch in context for error in branch]
    while waiting:
        match waiting.pop(0).kind:
            case ValidationErrorKind.Required(property=name):
                names.append(name)
            case ValidationErrorKind.AnyOf(context=inner):
                waiting[:0] = [error for branch in inner for error in branch]
            case _:
                pass
    names = [name for name in names if not name.startswith("_")]
    if len(names) < 2:
        return next(iter(names), "")
    stem = names[0]
    while not all(name.startswith(stem) for name in names):
        stem = stem[:-1]
    return f"{stem}[x]"


def _invalid(path: str, what: str) -> Refused:
    return Refused(code_pb2.CODE_INVALID, f"{path} {what}", path)


def _too_large(what: str) -> Refused:
    return Refused(code_pb2.CODE_TOO_LARGE, f"the content {what}", "content")
