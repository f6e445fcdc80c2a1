"""Broken images, made from the tests' base and removed again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

BASE = "modelops-fixture/python:3.12"


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


class Images:
    """Makes images under a name of their own, and removes them."""

    def __init__(self, engine: Any) -> None:
        self.api = engine.api
        self.repository = f"modelops-test/{uuid.uuid4().hex[:10]}"
        self._made: list[str] = []

    def name(self, tag: str) -> str:
        return f"{self.repository}:{tag}"

    def tagged(self, tag: str, image: str = BASE) -> str:
        """Tag an image with a name of this test."""
        self.api.tag(image, self.repository, tag)
        self._made.append(self.name(tag))
        return self.name(tag)

    def derived(
        self, tag: str, *, base: str = BASE, files: Mapping[str, bytes] | None = None, changes: Sequence[str] = ()
    ) -> str:
        """Make an image of a base, with files added and Dockerfile instructions applied."""
        container = self.api.create_container(base, ["true"])["Id"]
        try:
            if files:
                self.api.put_archive(container, "/", archive(files))
            self.api.commit(container, repository=self.repository, tag=tag, changes=list(changes))
        finally:
            self.api.remove_container(container, force=True)
        self._made.append(self.name(tag))
        return self.name(tag)

    def imported(self, tag: str, files: Mapping[str, bytes], *, architecture: str = "") -> str:
        """Make an image of these files alone; for another architecture, if one is named."""
        answer = self.api.post(
            self.api._url("/images/create"),
            data=archive(files),
            params={"fromSrc": "-", "repo": self.repository, "tag": tag},
            headers={"Content-Type": "application/x-tar"},
        )
        answer.raise_for_status()
        assert "error" not in answer.text, answer.text
        self._made.append(self.name(tag))
        if architecture:
            self._label(tag, architecture)
        return self.name(tag)

    def _label(self, tag: str, architecture: str) -> None:
        """Change the architecture in an image's configuration, in a saved archive."""
        saved = io.BytesIO(b"".join(self.api.get_image(self.name(tag))))
        with tarfile.open(fileobj=saved) as old:
            manifest = json.loads(_content(old, "manifest.json"))
            config = json.loads(_content(old, manifest[0]["Config"]))
            config["architecture"] = architecture
            data = json.dumps(config).encode()
            manifest[0]["Config"] = f"{hashlib.sha256(data).hexdigest()}.json"
            layers = {name: _content(old, name) for name in manifest[0]["Layers"]}
            parts = {manifest[0]["Config"]: data, "manifest.json": json.dumps(manifest).encode(), **layers}
        self.api.remove_image(self.name(tag))
        list(self.api.load_image(archive(parts)))

    def close(self) -> None:
        for name in self._made:
            self.api.remove_image(name, force=True)


ELF_OF_ANOTHER_MACHINE = (
    b"\x7fELF\x02\x01\x01\x00" + bytes(8) + b"\x02\x00\xb7\x00" + b"\x01\x00\x00\x00" + os.urandom(120)
)
"""The header of a program for 64-bit ARM (machine 0xb7); the rest is random."""
