"""Images made without Docker are what their Dockerfiles say."""

import hashlib
import json
import tarfile
from pathlib import Path

import yaml

from ops.manifests.generate import FOLDER
from tests.cluster import archive, images, rootfs

DOCKERFILE = """ARG BASE
FROM ${BASE} AS made
ENV PATH=/not/this
FROM ${BASE}
ENV PATH=/opt/bin:/bin \\
    FLAG=1
WORKDIR /work
USER 10001:10001
"""


def test_how_an_image_is_run_is_read_from_the_last_stage() -> None:
    found = archive.settings(DOCKERFILE)
    assert found["Env"] == ["PATH=/opt/bin:/bin", "FLAG=1"]
    assert (found["WorkingDir"], found["User"]) == ("/work", "10001:10001")


def test_the_real_dockerfiles_run_without_root_and_find_python() -> None:
    assert images.PYTHON.dockerfile is not None
    found = archive.settings(images.PYTHON.dockerfile.read_text())
    assert found["User"] == f"{rootfs.USER}:{rootfs.USER}"
    assert any(entry.startswith("PYTHONPATH=/opt/cbmdhi/app:") for entry in found["Env"])


def test_the_images_are_called_as_the_overlay_calls_them() -> None:
    said = yaml.safe_load((FOLDER / "overlays" / "laptop" / "kustomization.yaml").read_text())["images"]
    names = {f"{image['newName']}:{image['newTag']}" for image in said}
    assert names == {images.PYTHON.tag, images.GO.tag}


def test_an_archive_holds_the_files_as_roots_with_their_times(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "program").write_bytes(b"code")
    (root / "bin" / "program").chmod(0o700)
    (root / "link").symlink_to("bin/program")
    archive.write(tmp_path / "made.tar", "local.test/made:1", root, {"User": "1:1"}, "x86_64")

    with tarfile.open(tmp_path / "made.tar") as outer:
        [manifest] = json.loads(_content(outer, "manifest.json"))
        assert manifest["RepoTags"] == ["local.test/made:1"]
        config = _content(outer, manifest["Config"])
        assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
        layer = _content(outer, manifest["Layers"][0])
        document = json.loads(config)
        assert document["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
        assert (document["architecture"], document["config"]) == ("amd64", {"User": "1:1"})
        (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as inner:
        entries = {entry.name: entry for entry in inner}
        program = entries["./bin/program"]
        assert (program.uid, program.gid, program.mode) == (0, 0, 0o755)
        assert program.mtime == int((root / "bin" / "program").stat().st_mtime)
        assert entries["./link"].linkname == "bin/program"
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_loaders_words_are_understood() -> None:
    said = """a:
\tlinux-vdso.so.1 (0x00007ffd)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f11)
\tlibodd.so => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f12)
b:
\tstatically linked
"""
    assert rootfs.loaded(said) == {
        Path("/lib/x86_64-linux-gnu/libc.so.6"),
        Path("/lib64/ld-linux-x86-64.so.2"),
    }


def test_a_program_of_the_machine_comes_with_what_it_loads(tmp_path: Path) -> None:
    rootfs.begin(tmp_path)
    rootfs.add_programs(tmp_path, ["cat"])
    rootfs.add_libraries(tmp_path)
    needed = rootfs.libraries([tmp_path / "usr" / "bin" / "cat"])
    assert needed
    assert all((tmp_path / library.relative_to("/")).is_file() for library in needed)


def _content(archive_: tarfile.TarFile, name: str) -> bytes:
    found = archive_.extractfile(name)
    assert found is not None
    return found.read()
