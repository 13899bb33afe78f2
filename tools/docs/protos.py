"""Every service, message and code of `protos/`, with the comments that stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf import descriptor_pb2 as pb

from tools.docs.pages import ROOT

_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM, _VALUE, _METHOD = 2, 3, 4, 2, 2
_KINDS = {
    getattr(pb.FieldDescriptorProto, f"TYPE_{name.upper()}"): name
    for name in (
        "double",
        "float",
        "int64",
        "uint64",
        "int32",
        "fixed64",
        "fixed32",
        "bool",
        "string",
        "bytes",
        "uint32",
    )
}
_PACKAGES = "cbmdhi."


def pages() -> dict[str, str]:
    """A page for each package, in Markdown, by its name: `gateway`, `command`, …"""
    files = [file for file in described().file if file.package.startswith(_PACKAGES)]
    where = {name: _short(file.package) for file in files for name in _names(file)}
    found: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda one: (one.package, one.name)):
        found.setdefault(_short(file.package), []).extend(_File(file, where).parts())
    return {name: f"# cbmdhi.{name}.v1\n\n" + "\n\n".join(parts) + "\n" for name, parts in found.items()}


def described() -> pb.FileDescriptorSet:
    """The protos as their compiler read them, comments included."""
    files = sorted(
        path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos").rglob("*.proto")
    )
    made = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                "-I",
                "protos",
                "--include_source_info",
                "--include_imports",
            ),
            *("--descriptor_set_out=/dev/stdout", *files),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return pb.FileDescriptorSet.FromString(made.stdout)


class _File:
    def __init__(self, file: pb.FileDescriptorProto, where: dict[str, str]) -> None:
        self._file = file
        self._where = where
        self._package = _short(file.package)
        self._comments = {
            tuple(location.path): _prose(location.leading_comments or location.trailing_comments)
            for location in file.source_code_info.location
        }

    def parts(self) -> Iterator[str]:
        name = self._file.name
        head = self._comments.get((2,)) or self._comments.get((12,)) or ""
        yield f"[`protos/{name}`](../../source/protos/{name}.md)" + (f"\n\n{head}" if head else "")
        for number, service in enumerate(self._file.service):
            yield from self._service(service, (_SERVICE, number))
        for number, message in enumerate(self._file.message_type):
            yield from self._message(message, (_MESSAGE, number), "")
        for number, enum in enumerate(self._file.enum_type):
            yield self._enum(enum, (_ENUM, number), "")

    def _service(self, service: pb.ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {service.name}\n\n{self._said(path)}"
        for number, method in enumerate(service.method):
            asked = f"{'stream of ' if method.client_streaming else ''}{self._link(method.input_type)}"
            given = f"{'stream of ' if method.server_streaming else ''}{self._link(method.output_type)}"
            said = self._said((*path, _METHOD, number))
            yield f"### {service.name}.{method.name}\n\n{asked} → {given}\n\n{said}"

    def _message(self, message: pb.DescriptorProto, path: tuple[int, ...], outer: str) -> Iterator[str]:
        if message.options.map_entry:
            return
        name = f"{outer}{message.name}"
        rows = ["| field | type | |", "|---|---|---|"]
        for number, field in enumerate(message.field):
            choice = f"one of `{message.oneof_decl[field.oneof_index].name}`. " if _in_choice(field) else ""
            said = self._said((*path, _FIELD, number)).replace("\n", " ").replace("|", "\\|")
            rows.append(
                f"| `{field.name}` = {field.number} | {self._type(field, message)} | {choice}{said} |"
            )
        yield f"### {name}\n\n{self._said(path)}\n\n" + (
            "\n".join(rows) if message.field else "Without fields."
        )
        for number, nested in enumerate(message.nested_type):
            yield from self._message(nested, (*path, _NESTED, number), f"{name}.")
        for number, enum in enumerate(message.enum_type):
            yield self._enum(enum, (*path, _NESTED_ENUM, number), f"{name}.")

    def _enum(self, enum: pb.EnumDescriptorProto, path: tuple[int, ...], outer: str) -> str:
        rows = ["| value | | |", "|---|---|---|"]
        for number, value in enumerate(enum.value):
            said = self._said((*path, _VALUE, number)).replace("\n", " ").replace("|", "\\|")
            rows.append(f"| `{value.name}` | {value.number} | {said} |")
        return f"### {outer}{enum.name}\n\n{self._said(path)}\n\n" + "\n".join(rows)

    def _said(self, path: tuple[int, ...]) -> str:
        return self._comments.get(path, "")

    def _type(self, field: pb.FieldDescriptorProto, message: pb.DescriptorProto) -> str:
        entry = next((one for one in message.nested_type if field.type_name.endswith(f".{one.name}")), None)
        if entry and entry.options.map_entry:
            key, value = entry.field
            return f"map of {self._type(key, entry)} to {self._type(value, entry)}"
        kind = _KINDS.get(field.type) or self._link(field.type_name)
        repeated = field.label == pb.FieldDescriptorProto.LABEL_REPEATED
        return f"repeated {kind}" if repeated else f"optional {kind}" if field.proto3_optional else kind

    def _link(self, type_name: str) -> str:
        full = type_name.lstrip(".")
        package = self._where.get(full)
        if package is None:
            return f"`{full}`"
        name = full.split(".v1.")[1]
        page = "" if package == self._package else f"{package}.md"
        return f"[{name}]({page}#{name.lower().replace('.', '')})"


def _in_choice(field: pb.FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional


def _short(package: str) -> str:
    return package.removeprefix(_PACKAGES).removesuffix(".v1")


def _names(file: pb.FileDescriptorProto) -> Iterator[str]:
    def nested(messages: Sequence[pb.DescriptorProto], outer: str) -> Iterator[str]:
        for message in messages:
            yield f"{outer}.{message.name}"
            yield from nested(message.nested_type, f"{outer}.{message.name}")
            yield from (f"{outer}.{message.name}.{enum.name}" for enum in message.enum_type)

    yield from nested(file.message_type, file.package)
    yield from (f"{file.package}.{enum.name}" for enum in file.enum_type)


def _prose(comment: str) -> str:
    """A comment as a paragraph; what looks like HTML is text."""
    text = "\n".join(line.strip() for line in comment.strip().splitlines())
    return re.sub(r"<(?=\w)", "&lt;", text).replace("*", "\\*")


if __name__ == "__main__":
    for name, text in pages().items():
        Path(sys.argv[1], f"{name}.md").write_text(text, encoding="utf-8")
