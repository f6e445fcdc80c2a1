"""Which package index uv asks: the one that the user's uv or pip is configured for.

uv reads its own configuration; pip's, which uv ignores, is translated into uv's variables. The files of pip are read
here, since `pip config list` takes a second of a process in each xdist worker. Asks no index.
"""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pytest_modelops.environments.uv import without_passwords
from pytest_modelops.storage.toml import tomllib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """What is configured.

    Attributes:
        source: whose configuration it is, for people.
        variables: pip's configuration as variables of uv; empty where uv is configured itself.
        fingerprint: SHA-256 of everything that decides where packages come from. Passwords are left out: they change
            while the index stays.
        logins: user and password by URL, of uv's indexes whose login is in `UV_INDEX_<NAME>_…` variables; uv does not
            pass it on.
        insecure_hosts: those whose certificates uv does not check.
        places: URLs and directories that are asked, without credentials; `--no-index` if no index is.
    """

    source: str
    variables: Mapping[str, str]
    fingerprint: str
    logins: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict, repr=False)
    insecure_hosts: tuple[str, ...] = ()
    places: frozenset[str] = frozenset()


def configured_index(
    rootdir: Path, *, environ: Mapping[str, str] = os.environ, prefix: Path = Path(sys.prefix), root: Path = Path("/")
) -> Index:
    """Find the configured index: uv's if uv has one, else pip's, else the default (pypi.org).

    Args:
        rootdir: where uv looks for a project's configuration, in it and above.
        environ: the host's variables.
        prefix: of the Python whose pip is meant.
        root: of the file system; tests have their own.
    """
    tables = list(_uv_tables(rootdir, environ, root))
    uv_variables = {name: environ[name] for name in _UV_INDEX if environ.get(name)}
    decides = [uv_variables, {name: environ.get(name) for name in _UV_CHOICE}, tables]
    if uv_variables or any(map(_names_an_index, tables)):
        return Index(
            source="uv's configuration",
            variables={},
            fingerprint=_fingerprint(decides),
            logins=_logins(tables, environ),
            insecure_hosts=_insecure_hosts(tables, environ),
            places=_places(tables, environ),
        )
    translated = _translate(_pip_options(environ, prefix, root), rootdir)
    if not environ.get("SSL_CERT_FILE") and (bundle := environ.get("REQUESTS_CA_BUNDLE")):
        translated.setdefault("SSL_CERT_FILE", bundle)  # pip honours this one, uv does not
    places = {name: value for name, value in translated.items() if name in _UV_INDEX}
    return Index(
        source="pip's configuration" if places else "the default",
        variables=translated,
        fingerprint=_fingerprint([*decides, places]),
        insecure_hosts=_insecure_hosts(tables, {**translated, **environ}),
        places=_places(tables, translated),
    )


def _fingerprint(decides: object) -> str:
    text = without_passwords(json.dumps(decides, sort_keys=True, default=str))
    return hashlib.sha256(text.encode()).hexdigest()


_UV_INDEX = (*("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"), *("UV_FIND_LINKS", "UV_NO_INDEX"))
_UV_CHOICE = ("UV_INDEX_STRATEGY", "UV_EXCLUDE_NEWER")


def _uv_tables(rootdir: Path, environ: Mapping[str, str], root: Path) -> Iterator[Mapping[str, object]]:
    """Yield the table of each file that uv reads: a project's, the user's and the system's.

    Source: https://docs.astral.sh/uv/concepts/configuration-files/. A file that is not valid TOML counts as empty; uv
    itself reports it.
    """
    if _true(environ.get("UV_NO_CONFIG", "")):
        return
    if named := environ.get("UV_CONFIG_FILE"):
        yield _toml(rootdir / named)
        return
    for directory in (rootdir, *rootdir.parents):
        if (directory / "uv.toml").is_file():
            yield _toml(directory / "uv.toml")
            break
        if table := _toml(directory / "pyproject.toml").get("tool", {}).get("uv"):
            yield table
            break
    yield _toml(_config_home(environ) / "uv" / "uv.toml")
    listed = [Path(part) for part in environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep) if part]
    system = [directory / "uv" / "uv.toml" for directory in (*(listed or [root / "etc/xdg"]), root / "etc")]
    yield _toml(next((file for file in system if file.is_file()), system[0]))


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _indexes(table: Mapping[str, object]) -> list[Mapping[str, object]]:
    entries = table.get("index")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _names_an_index(table: Mapping[str, object]) -> bool:
    """Return whether uv's table says where packages come from; an explicit index is for single packages only."""
    parts = [part for part in (table, table.get("pip")) if isinstance(part, Mapping)]
    keys = ("index-url", "extra-index-url", "find-links", "no-index")
    if any(part.get(key) for part in parts for key in keys):
        return True
    return any(not entry.get("explicit") for entry in _indexes(table))


def _logins(tables: Sequence[Mapping[str, object]], environ: Mapping[str, str]) -> Mapping[str, tuple[str, str]]:
    """Return what `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD` say, by URL.

    Source: https://docs.astral.sh/uv/concepts/indexes/#providing-credentials-directly.
    """
    entries = [entry for table in tables for entry in _indexes(table)]
    named = [(str(entry.get("name", "")), str(entry.get("url", ""))) for entry in entries]
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        parts = [place.partition("=")[::2] for place in environ.get(variable, "").split()]
        named += [(name, url) for name, url in parts if re.fullmatch(r"[\w.-]+", name)]
    logins = {}
    for name, url in named:
        prefix = f"UV_INDEX_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"
        login = environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")
        if name and any(login):
            logins[url.rstrip("/")] = login
    return logins


_PYPI = "https://pypi.org/simple"


def _places(tables: Sequence[Mapping[str, object]], variables: Mapping[str, str]) -> frozenset[str]:
    """Return the indexes and further places that uv asks."""
    defaults = [variables.get(name, "") for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")]
    others = f"{variables.get('UV_INDEX', '')} {variables.get('UV_EXTRA_INDEX_URL', '')}".split()
    others += variables.get("UV_FIND_LINKS", "").replace(",", " ").split()
    parts = [part for table in tables for part in (table, table.get("pip")) if isinstance(part, Mapping)]
    if _true(variables.get("UV_NO_INDEX", "")) or any(part.get("no-index") for part in parts):
        return frozenset(["--no-index"])
    for part in parts:
        defaults.append(str(part.get("index-url") or ""))
        for key in ("extra-index-url", "find-links"):
            listed = part.get(key)
            others += map(str, listed) if isinstance(listed, list) else []
        for entry in _indexes(part):
            (defaults if entry.get("default") else others).append(str(entry.get("url", "")))
    places = filter(None, (*(list(filter(None, defaults)) or [_PYPI]), *others))
    return frozenset(re.sub(r"//[^/@]*@", "//", re.sub(r"^[\w.-]+=", "", place)) for place in places)


def _insecure_hosts(tables: Sequence[Mapping[str, object]], environ: Mapping[str, str]) -> tuple[str, ...]:
    listed = [table.get("allow-insecure-host") for table in tables]
    hosts = [str(host) for part in listed if isinstance(part, list) for host in part]
    return (*environ.get("UV_INSECURE_HOST", "").split(), *hosts)


def _config_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or _home(environ) / ".config")


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _pip_files(environ: Mapping[str, str], prefix: Path, root: Path) -> Sequence[Path]:
    """Return the configuration files of pip; later ones override earlier ones.

    Source: https://pip.pypa.io/en/stable/topics/configuration/ and pip's `_internal/configuration.py`.
    """
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return ()
    home = _home(environ)
    if sys.platform == "darwin":
        machine = [root / "Library/Application Support/pip"]
        support = home / "Library/Application Support/pip"
        own = support if support.is_dir() else home / ".config/pip"
    else:
        listed = environ.get("XDG_CONFIG_DIRS") or str(root / "etc/xdg")
        machine = [*(Path(part, "pip") for part in listed.split(os.pathsep) if part), root / "etc"]
        own = _config_home(environ) / "pip"
    user = [] if named and Path(named).exists() else [home / ".pip", own]
    return [*(directory / "pip.conf" for directory in (*machine, *user, prefix)), *([Path(named)] if named else [])]


def _pip_options(environ: Mapping[str, str], prefix: Path, root: Path) -> dict[str, str]:
    """Return the options of `pip install` by their long names. Empty values do not count."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _pip_files(environ, prefix, root):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself refuses to run with such a file
        for name, options in sections.items():
            if parser.has_section(name):
                options.update((key.replace("_", "-"), value) for key, value in parser.items(name) if value)
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return {**sections["global"], **sections["install"], **variables}


def _translate(options: Mapping[str, str], rootdir: Path) -> dict[str, str]:
    """Return the options of pip as variables of uv.

    A missing local directory is dropped: pip only warns about it, uv would stop. A missing main index stays, since
    without it uv would ask pypi.org.
    """
    extra = _existing(options.get("extra-index-url", ""), rootdir)
    translated = {
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": " ".join(extra),
        # pip takes the best version of all indexes; uv, by default, those of the first that has the package.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if extra else "",
        "UV_FIND_LINKS": ",".join(_existing(options.get("find-links", ""), rootdir)),
        "UV_NO_INDEX": "1" if _true(options.get("no-index", "")) else "",
        "UV_INSECURE_HOST": " ".join(options.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": _whole_seconds(options.get("timeout") or options.get("default-timeout", "")),
        "ALL_PROXY": options.get("proxy", ""),
        "SSL_CERT_FILE": options.get("cert", ""),
        "SSL_CLIENT_CERT": options.get("client-cert", ""),
    }
    return {name: value for name, value in translated.items() if value}


def _existing(places: str, rootdir: Path) -> list[str]:
    """Return those of pip's locations that are a URL or an existing path."""
    found = []
    for place in places.split():
        parts = urlsplit(place)
        path = rootdir / Path(unquote(parts.path)).expanduser()
        if parts.scheme not in {"", "file"} or path.exists():
            found.append(place if parts.scheme else str(path))
    return found


def _true(text: str) -> bool:
    return text.lower() in {"1", "true", "yes", "on", "y", "t"}


def _whole_seconds(text: str) -> str:
    """Round up: pip takes fractions of a second, uv does not."""
    try:
        return str(math.ceil(float(text)))
    except ValueError:
        return ""
