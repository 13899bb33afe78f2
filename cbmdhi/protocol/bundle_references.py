"""References inside a FHIR R4 Bundle, made such that they hold once each entry is a record of its own.

By http://hl7.org/fhir/R4/bundle.html#references and http.html#trules: literal references, elements of the
types uri, url, oid and uuid, and links in the narrative. What would lead nowhere is refused. Pure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import ids, json_text

_REST = re.compile(
    r"(?P<root>https?://[^?#]+/|)(?P<type>[A-Z][A-Za-z]{1,63})/(?P<id>[A-Za-z0-9.-]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?"
)
_HREF = re.compile(r"""(?<![\w-])((?:href|src)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
# Elements of the types uri, url, oid and uuid in the schema of R4, whatever resource they are in. A value is
# replaced only when it is the full URL of an entry; canonicals are not.
_URIS = """
    address authority authorizationUrl code contentReference definition definitionUri derivedFromUri detail
    endpoint fullUrl identifier implicitRules instantiates instantiatesUri issuer jurisdiction link location
    onlineInformation policy property protocol reference relativePath rendering source system target type uri
    url valueUri valueUrl valueOid valueUuid
"""
URI_ELEMENTS = frozenset(_URIS.split())

LEAST_ROOM = 16 * 1024 * 1024
"""Bytes by which the resources of a Bundle may grow together. A relative reference gets the whole address of
its server: 100 KB could become gigabytes."""

SEARCHES = "asks for a search, and contents are encrypted: "
_SEND = "send it along, name it by its URL, or by `identifier` in the place of `reference`"


class NotTaken(Exception):
    """What is asked for cannot be. path: `Bundle.entry[1].request.url`; reason: what to do, and no values."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path = path
        self.reason = f"{path} {what}"


@dataclass(frozen=True)
class Target:
    """What a reference can lead to: a record that an entry becomes.

    own_id    that it had where it comes from; empty when it had none
    version   0 while it is not known
    """

    kind: str
    record_id: str
    version: int
    full_url: str
    own_id: str

    @cached_property
    def root(self) -> str:
        """Of the server that it comes from; empty when its full URL does not say."""
        found = _REST.fullmatch(self.full_url)
        return found["root"] if found else ""


class Links:
    """Where references lead. In a batch nothing leads to another entry but to the patient."""

    def __init__(
        self, targets: Sequence[Target], patient: str, *, is_transaction: bool, room: int = LEAST_ROOM
    ) -> None:
        """
        patient  address of whom the Bundle's Patient is
        room     bytes by which all that is rewritten may grow together
        """
        self._room = room
        self._is_transaction = is_transaction
        self._patient = patient
        known = [one for one in targets if is_transaction or one.kind == "Patient"]
        self._by_url = {one.full_url: one for one in known if one.full_url}
        self._by_id: dict[tuple[str, str], list[Target]] = {}
        for one in known:
            self._by_id.setdefault((one.kind, one.own_id), []).append(one)
        # Of a reference that is there a thousand times it is found out once where it leads.
        self._found: dict[tuple[str, str], Target | None] = {}

    def rewritten(self, text: str, path: str, root: str) -> str:
        """The text of a resource, with whatever leads to an entry leading to its record. Raises NotTaken.

        root  of the server that it comes from: its relative references are to resources there
        """
        changes: list[tuple[int, int, str]] = []
        for one in json_text.strings(text, path):
            # Each link in a narrative can grow by the address of its server.
            links = len(_HREF.findall(one.value)) if one.name == "div" else 0
            self._check_room(len(root) * links, path)
            new = _new(one, self, root)
            if new is not None and new != one.value:
                changes.append((one.start, one.end, json_text.quoted(new)))
                self._room -= max(len(changes[-1][2]) - (one.end - one.start), 0)
                self._check_room(0, path)
        return json_text.changed(text, changes)

    def _check_room(self, more: int, path: str) -> None:
        if more > self._room:
            raise NotTaken(
                path, "grows too much once its references hold: name what they lead to by short URLs"
            )

    def exact(self, value: str) -> str | None:
        """What stands for an entry's full URL, and for nothing else."""
        found = self._by_url.get(value)
        return None if found is None else self._place(found)

    def link(self, value: str, root: str, path: str) -> str | None:
        """As `reference`, of what may be something else than a reference, such as another address."""
        is_one = value.startswith("urn:uuid:") or _REST.fullmatch(value) is not None
        return self.reference(value, root, path) if is_one else None

    def reference(self, value: str, root: str, path: str) -> str | None:
        """What takes its place; None when it holds as it is. Raises NotTaken when nobody could follow it."""
        name, mark, fragment = value.partition("#")
        if not name:
            return None
        found = _REST.fullmatch(name)
        target = self._target(name, root, found)
        if target is not None:
            version = found["version"] if found else None
            if version is not None and not target.version:
                raise NotTaken(path, "is to a version that is not known yet: leave the version out")
            return self._place(target) + (f"/_history/{target.version}" if version else "") + mark + fragment
        if found is None:
            self._check_other(name, path)
        elif not found["root"]:
            own_id = found["id"]
            if not ids.is_uuid7(own_id) and not (found["type"] == "Patient" and addresses.is_address(own_id)):
                if root:
                    return f"{root}{value}"
                raise NotTaken(path, f"is to {self._nothing} and to no record here (a UUIDv7): {_SEND}")
        return None

    def _target(self, name: str, root: str, found: re.Match[str] | None) -> Target | None:
        if found is None:
            return self._by_url.get(name)
        if (name, root) not in self._found:
            self._found[name, root] = self._led_to(found, root)
        return self._found[name, root]

    def _led_to(self, found: re.Match[str], root: str) -> Target | None:
        own = f"{found['type']}/{found['id']}"
        if found["root"] or root:
            target = self._by_url.get((found["root"] or root) + own)
            if target is not None or found["root"]:
                return target
        named = self._by_id.get((found["type"], found["id"]), ())
        alike = [one for one in named if not (one.root and root and one.root != root)]
        return alike[0] if len(alike) == 1 else None

    def _check_other(self, name: str, path: str) -> None:
        if name.startswith("urn:"):
            raise NotTaken(path, f"is to {self._nothing}: {_SEND}")
        if name.startswith(("http://", "https://")):
            return
        if "?" in name:
            raise NotTaken(path, f"{SEARCHES}name it by id, or by `identifier` in the place of `reference`")
        raise NotTaken(path, "is no reference: Type/id, a URL, urn:uuid:… or #id")

    @property
    def _nothing(self) -> str:
        if self._is_transaction:
            return "nothing in this Bundle"
        return "nothing that an entry of a batch can name (entries that name one another are a transaction)"

    def _place(self, target: Target) -> str:
        return f"Patient/{self._patient}" if target.kind == "Patient" else f"{target.kind}/{target.record_id}"


def _new(one: json_text.String, links: Links, root: str) -> str | None:
    if one.name == "reference":
        return links.reference(one.value, root, one.path)
    if one.name == "div":
        return _HREF.sub(lambda found: _attribute(found, one.path, links, root), one.value)
    if one.name == "url" and one.around not in ("extension", "modifierExtension"):
        return links.link(one.value, root, one.path) or links.exact(one.value)
    return links.exact(one.value) if one.name in URI_ELEMENTS else None


def _attribute(found: re.Match[str], path: str, links: Links, root: str) -> str:
    quote, value = found[2][0], html.unescape(found[2][1:-1]).strip()
    new = links.link(value, root, path) or links.exact(value)
    return found[0] if new is None else f"{found[1]}{quote}{html.escape(new)}{quote}"
