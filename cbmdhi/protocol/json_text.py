"""JSON as the text it is (RFC 8259): read strictly, changed in places, and never written anew.

Two programs can read one text and see two things: of a name that is there twice, of half a surrogate, of a
number that is too large for them. Such a text is refused, with a sentence. Numbers are never floats here:
1.10 and 1.1 are two measurements (http://hl7.org/fhir/R4/datatypes.html#decimal).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from json import decoder
from typing import Any, NamedTuple, cast

MAX_DEPTH = 64
"""Objects and lists inside one another."""

# A name that can be an element's. Any other may be anything, a person's name included, and is not repeated.
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
_scanned = cast("Callable[[str, int], tuple[str, int]]", decoder.scanstring)  # type: ignore[attr-defined]
_scan_once = cast("Callable[[str, int], tuple[Any, int]]", json.JSONDecoder().scan_once)  # type: ignore[attr-defined]
_SPACES = " \t\r\n"
_SPACE = re.compile(f"[{_SPACES}]*")
_SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


class NotJson(Exception):
    """What is wrong with a text: the end of a sentence that begins with what it is. Holds no value of it."""


class TooDeep(NotJson):
    """It is nested deeper than MAX_DEPTH."""


class Member(NamedTuple):
    """A member of an object in a text: `start` of its name, `value` where its value begins, `end` behind."""

    name: str
    start: int
    value: int
    end: int


class String(NamedTuple):
    """A string in a text, between `start` and `end`; and the path of names and places that leads to it.

    name    of the member that it is the value of, or is in the list of
    around  of the member that the object with that member is, or is in the list of
    """

    value: str
    start: int
    end: int
    name: str
    around: str
    path: str


def parse(raw: bytes) -> Any:
    """What the text says; numbers as int, or Decimal with their digits. Raises NotJson."""
    return parse_text(decode(raw))


def decode(raw: bytes) -> str:
    """The text. Raises NotJson for another encoding than UTF-8, and for a byte order mark."""
    if not raw.strip():
        raise NotJson("is empty")
    for mark, name in _MARKS:
        if raw.startswith(mark):
            raise NotJson(f"begins with a byte order mark of {name}: save it as UTF-8 without one")
    if b"\0" in raw:
        raise NotJson(f"has a NUL at byte {raw.index(0)}: save it as UTF-8 (it may be UTF-16)")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"is not UTF-8 at byte {error.start}: save it as UTF-8 (it may be Latin-1)") from error


def parse_object(raw: bytes) -> dict[str, Any]:
    """As `parse`, of what has to be an object. Raises NotJson."""
    found = parse(raw)
    if not isinstance(found, dict):
        raise NotJson("is no JSON object, as a resource is")
    return cast("dict[str, Any]", found)


def parse_text(text: str) -> Any:
    """As `parse`, of a text that is decoded already."""
    if text[start_of(text) :][:1] == "<":
        raise NotJson("is XML: send it as FHIR has it in JSON")
    try:
        found = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}"
        if error.msg == "Extra data":
            raise NotJson(f"has more after its end, {where}: send one resource, or one Bundle") from error
        raise NotJson(f"is not JSON {where} ({error.msg[0].lower()}{error.msg[1:]})") from error
    except RecursionError as error:
        raise _too_deep() from error
    # As many brackets as levels at least: most texts need no walk.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        check_depth(found)
    if _SUSPECT.search(text):
        _check_characters(found)
    return found


def check_depth(found: Any) -> None:
    """Raises TooDeep."""
    if _depth(found) > MAX_DEPTH:
        raise _too_deep()


def dump(value: Any) -> bytes:
    """A value as compact JSON in UTF-8; a Decimal with its digits. Raises NotJson."""
    return encode("".join(_written(value, 0)))


def encode(text: str) -> bytes:
    """The text in UTF-8. Raises NotJson for half a character."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NotJson(_HALF) from error


def members(text: str, at: int = 0) -> list[Member]:
    """The members of the object that begins at `at` in a text that was parsed."""
    found: list[Member] = []
    at = _after(text, at + 1)
    while text[at] == '"':
        name, end = _scanned(text, at + 1)
        value = _after(text, _after(text, end) + 1)
        found.append(Member(name, at, value, end_of(text, value)))
        at = _after(text, found[-1].end)
        at = _after(text, at + 1) if text[at] == "," else at
    return found


def elements(text: str, at: int) -> list[int]:
    """Where the elements of the list begin that begins at `at`."""
    found: list[int] = []
    at = _after(text, at + 1)
    while text[at] != "]":
        found.append(at)
        at = _after(text, end_of(text, at))
        at = _after(text, at + 1) if text[at] == "," else at
    return found


def start_of(text: str) -> int:
    """Where the value begins."""
    return _after(text, 0)


def end_of(text: str, at: int) -> int:
    """Behind the value that begins at `at`."""
    return _scan_once(text, at)[1]


def strings(text: str, path: str) -> list[String]:
    """Every string that is a value in a text that was parsed. path: of the whole."""
    found: list[String] = []
    _collect(text, start_of(text), ("", ""), path, found)
    return found


def _collect(text: str, at: int, names: tuple[str, str], path: str, found: list[String]) -> int:
    """Gives where the value ends."""
    if text[at] == '"':
        value, end = _scanned(text, at + 1)
        found.append(String(value, at, end, *names, path))
        return end
    if text[at] not in "{[":
        return end_of(text, at)
    closing, place = "}" if text[at] == "{" else "]", 0
    at = _after(text, at + 1)
    while text[at] != closing:
        if closing == "}":
            name, at = _scanned(text, at + 1)
            known = name if _NAME.fullmatch(name) else "…"
            inner, here = (name, names[0]), f"{path}.{known}"
            at = _after(text, _after(text, at) + 1)
        else:
            inner, here = names, f"{path}[{place}]"
        at, place = _after(text, _collect(text, at, inner, here, found)), place + 1
        at = _after(text, at + 1) if text[at] == "," else at
    return at + 1


def quoted(value: str) -> str:
    """A string as it stands in a text."""
    return json.dumps(value, ensure_ascii=False)


def without(found: list[Member], names: Iterable[str]) -> list[tuple[int, int, str]]:
    """Changes that take those members out of their object."""
    gone, changes, kept = set(names), list[tuple[int, int, str]](), False
    for place, member in enumerate(found):
        if member.name not in gone:
            kept = True
        elif kept:
            changes.append((found[place - 1].end, member.end, ""))
        elif place + 1 < len(found):
            changes.append((member.start, found[place + 1].start, ""))
        else:
            changes.append((member.start, member.end, ""))
    return changes


def changed(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """The text with these parts replaced, each from a place to another; all the rest of it as it was."""
    parts: list[str] = []
    at = 0
    for start, end, new in sorted(changes):
        parts += (text[at:start], new)
        at = end
    return "".join((*parts, text[at:]))


def _after(text: str, at: int) -> int:
    if text[at : at + 1] not in _SPACES:
        return at
    return cast("re.Match[str]", _SPACE.match(text, at)).end()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set[str]()
        # `add` gives None: the first that was seen before.
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        called = f"the property `{twice}`" if _NAME.fullmatch(twice) else "a property"
        raise NotJson(f"has {called} twice in one object; send each once")
    return found


def _finite(text: str) -> str:
    # Others read it as a double: to them it would be infinite.
    if math.isinf(float(text)):
        raise NotJson("has a number that is out of range")
    return text


def _integer(text: str) -> int | Decimal:
    return Decimal(text) if text == "-0" else int(_finite(text))


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(_finite(text))
    except InvalidOperation as error:
        raise NotJson("has a number that is out of range") from error


def _constant(text: str) -> Any:
    raise NotJson(f"has {text}, which is no number in JSON: leave the element out, or say why it is absent")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once_each, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)
_HALF = "has half a character (a lone surrogate): mend its text"


def _check_characters(found: Any) -> None:
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise NotJson("has the character NUL in a text: take it out")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise NotJson(_HALF) from error
        elif isinstance(value, dict):
            of = cast("dict[str, Any]", value)
            waiting += [*of, *of.values()]
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)


def _too_deep() -> TooDeep:
    return TooDeep(f"is nested deeper than {MAX_DEPTH} levels; send a flatter resource")


def _depth(parsed: Any) -> int:
    depth, level = 0, _nested([parsed])
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [inner for value in level for inner in _nested(value)]
    return depth


def _nested(value: Any) -> list[Any]:
    inner = cast("dict[str, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
    return [member for member in inner if isinstance(member, dict | list)]


def _written(value: Any, depth: int) -> Iterable[str]:
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, str):
        yield quoted(value)
    elif value is None or isinstance(value, bool | int):
        yield json.dumps(value)
    elif isinstance(value, Decimal | float):
        if not math.isfinite(value):
            raise NotJson("has a number that is infinite, or none: leave the element out")
        yield str(value) if isinstance(value, Decimal) else repr(value)
    elif isinstance(value, Mapping):
        yield from _object(cast("Mapping[Any, Any]", value), depth)
    elif isinstance(value, list | tuple):
        yield "["
        for place, one in enumerate(cast("list[Any]", value)):
            yield "," if place else ""
            yield from _written(one, depth + 1)
        yield "]"
    else:
        raise NotJson(f"has a value of Python's type {type(value).__name__}, which JSON does not know")


def _object(value: Mapping[Any, Any], depth: int) -> Iterable[str]:
    yield "{"
    for place, (name, one) in enumerate(value.items()):
        if not isinstance(name, str):
            raise NotJson("has a property whose name is no text")
        yield ("," if place else "") + quoted(name) + ":"
        yield from _written(one, depth + 1)
    yield "}"
