"""Sample code: what is fetched is clean and whole; what is generated is code, and says so."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendlaw import samplecode
from blendlaw.corpus.inputs import find_pieces
from blendlaw.corpus.reading import read_texts
from blendlaw.errors import InputError
from blendlaw.languages import by_extension
from blendlaw.pairs.inputs import Reading, find_blocks, read_tasks
from blendlaw.samplecode import (
    Unavailable,
    fetch,
    fetch_pairs,
    generate,
    registries,
    sample_code,
)
from blendlaw.samplecode.__main__ import main
from blendlaw.samplecode.archives import read_archive, standard_library
from blendlaw.samplecode.dialects import DIALECTS
from blendlaw.samplecode.filters import EXTENSIONS, clean, wanted_path, without_licence
from blendlaw.samplecode.generated import programs
from blendlaw.samplecode.manifest import (
    Archive,
    LanguageCode,
    Manifest,
    ParallelCode,
    read_manifest,
)
from blendlaw.samplecode.registries import Missing, Registries
from blendlaw.samplecode.snowball import FLAGS, routines_of, stemmers
from blendlaw.samplecode.sources import COMPILED, PACKAGES, SNOWBALL, Package

LANGUAGES = ["Python", "Java", "JavaScript", "TypeScript", "C#", "Go", "Rust"]


def code(number: int, lines: int = 40) -> str:
    return "".join(f"value_{number}_{line} = {number} + {line};\n" for line in range(lines))


def tarball(path: Path, members: Mapping[str, str | bytes]) -> Path:
    # gzip would write the time into the archive, and its digest would change from second to second.
    zipped = gzip.GzipFile(path, "wb", mtime=0) if path.suffix == ".tgz" else path.open("wb")
    mode = "w|" if path.suffix == ".tgz" else f"w|{path.suffix[1:]}"
    with zipped as file, tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in members.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("top/link.go")
        link.type, link.linkname = tarfile.SYMTYPE, "a.go"
        tar.addfile(link)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_languages_are_the_same_everywhere() -> None:
    assert list(PACKAGES) == list(DIALECTS) == list(EXTENSIONS) == LANGUAGES
    for language, extensions in EXTENSIONS.items():
        for extension in extensions:
            known = by_extension(f"a{extension}")
            assert known is not None
            assert known.name == language


def test_what_npm_has_is_pinned() -> None:
    packages = [package for some in PACKAGES.values() for package in some]
    assert all("@" in p.name[1:] for p in packages if p.registry == "npm")
    assert {p.registry for p in packages} == {"npm", "debian", "debian source", "python"}
    assert not [p for p in packages if "GPL" in p.licence]


# Filters


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("src/main/java/org/A.java", "Java"),
        ("lib/contest/attest.js", "JavaScript"),
        ("lib/b.mjs", "JavaScript"),
        ("src/latest.ts", "TypeScript"),
        ("src/protest/Greatest.cs", "C#"),
        ("unittest/case.py", "Python"),
        ("go/x.go", "Go"),
        ("src/lib.rs", "Rust"),
    ],
)
def test_code_is_wanted(path: str, language: str) -> None:
    assert wanted_path(path, language)
    assert not [other for other in LANGUAGES if other != language and wanted_path(path, other)]


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("test/a.py", "Python"),
        ("idlelib/idle_test/a.py", "Python"),
        ("lib/test_a.py", "Python"),
        ("src/test/java/A.java", "Java"),
        ("android/guava-tests/A.java", "Java"),
        ("src/ATest.java", "Java"),
        ("Src/Newtonsoft.Json.Tests/A.cs", "C#"),
        ("src/ATests.cs", "C#"),
        ("ui/Main.Designer.cs", "C#"),
        ("dist/a.min.js", "JavaScript"),
        ("lib/a.spec.js", "JavaScript"),
        ("types/a.d.ts", "TypeScript"),
        ("go/a_test.go", "Go"),
        ("go/testdata/a.go", "Go"),
        ("pb/a.pb.go", "Go"),
        ("benches/a.rs", "Rust"),
        ("src/\udcff.rs", "Rust"),
    ],
)
def test_tests_and_what_is_made_is_not_wanted(path: str, language: str) -> None:
    assert not wanted_path(path, language)


LICENCE = "/*\n * Copyright 2020 Someone\n */\n\n"


@pytest.mark.parametrize(
    ("language", "header"),
    [
        ("Java", LICENCE),
        ("Go", "// Copyright 2020 The Authors.\n// Use is governed by a licence.\n\n"),
        ("C#", "#region Licence\n// Copyright Someone\n#endregion\n\n"),
        ("Python", "#! /usr/bin/env python3\n# Copyright Someone\n\n"),
    ],
)
def test_a_licence_at_the_beginning_goes(language: str, header: str) -> None:
    assert without_licence(header + code(1), language) == code(1)
    other = header.replace("Copyright", "About").replace("icence", "ule")
    assert without_licence(other + code(1), language) == other + code(1)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (code(1).encode(), code(1)),
        (b"\xef\xbb\xbf" + code(1).replace("\n", "\r\n").encode(), code(1)),
        (b"x = 1\n", None),
        (code(1).encode() + b"\xff", None),
        (code(1).encode() + b"\0", None),
        (code(1, 20_000).encode(), None),
        (b"// Code generated by a tool. DO NOT EDIT.\n" + code(1).encode(), None),
        (b"var x = " + b"1+" * 2000 + b"1;\n", None),
        ((b"x" * 200 + b"\n") * 10, None),
        (LICENCE.encode() + b"int x;\n" * 30, "int x;\n" * 30),
        ((LICENCE + "/" * 150).encode(), None),
    ],
)
def test_only_what_a_person_wrote_is_kept(content: bytes, kept: str | None) -> None:
    assert clean(content, "Java") == kept


@given(
    st.binary(max_size=600) | st.text(min_size=200, max_size=900).map(str.encode),
    st.sampled_from(LANGUAGES),
)
def test_what_is_kept_is_within_bounds(content: bytes, language: str) -> None:
    text = clean(content, language)
    if text is not None:
        assert 200 <= len(text.encode()) <= len(content)
        assert max(map(len, text.split("\n"))) <= 2000
        assert content.decode("utf-8-sig").replace("\r\n", "\n").endswith(text)


# Archives


@pytest.mark.parametrize("suffix", ["tgz", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_tarball_is_read_below_its_folder(tmp_path: Path, suffix: str) -> None:
    members = {"top/a.go": "a", "./top/b/c.go": "c", "top/big.go": bytes(1 << 21), "top/d": "d"}
    path = tarball(tmp_path / f"x.{suffix}", members)
    found = dict(read_archive(path, lambda name: name.endswith(".go")))
    assert found == {"a.go": b"a", "b/c.go": b"c"}


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb makes and reads packages")
def test_a_debian_package_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    for number in range(200):
        path = root / "usr" / "src" / f"{number}.rs"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code(number))
    path = tmp_path / "x.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(path)], check=True, capture_output=True)
    found = dict(read_archive(path, lambda name: name.endswith("7.rs")))
    assert found == {f"usr/src/{n}.rs": code(n).encode() for n in range(7, 200, 10)}
    assert next(read_archive(path, lambda name: True))[0] == "usr/src/0.rs"  # and no more

    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(Missing, match=r"x\.deb is not a whole archive"):
        list(read_archive(path, lambda name: True))


@given(data=st.data())
def test_a_tarball_that_was_cut_off_is_told(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tarball(tmp_path_factory.mktemp("cut") / "x.tgz", {"top/a.go": os.urandom(3000)})
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, 3000))])
    with pytest.raises(Missing, match=r"x\.tgz is not a whole archive"):
        list(read_archive(path, lambda name: True))


def test_the_standard_library_is_read_without_what_was_installed() -> None:
    found = dict(standard_library(lambda name: wanted_path(name, "Python")))
    assert b"def dump" in found["json/__init__.py"]
    assert not [name for name in found if "-packages" in name or "/test/" in f"/{name}"]


# The clients


def client(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name that is found before any other."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def downloads(tmp_path: Path, name: str = "downloads") -> Registries:
    (tmp_path / name).mkdir()
    return Registries(tmp_path / name)


def test_a_client_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(registries, "SYSTEM_APT", tmp_path)
    tried = downloads(tmp_path)
    with pytest.raises(Unavailable, match=r"^npm is not installed$"):
        tried.download(Package("npm", "x@1.0.0", "MIT"))
    with pytest.raises(Unavailable, match="no apt sources"):
        tried.download(Package("debian", "x", "MIT"))
    (tmp_path / "sources.list").write_text("deb http://example.org/debian stable main\n")
    with pytest.raises(Unavailable, match=r"^apt-get is not installed$"):
        downloads(tmp_path, "more").download(Package("debian", "x", "MIT"))


def test_npm_without_the_package_goes_on_and_without_network_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def npm(script: str) -> None:
        client(tmp_path / "bin", "npm", f"echo npm >> {tmp_path}/calls\n{script}", monkeypatch)

    tried = downloads(tmp_path)
    npm("echo 'npm error code E404'; echo 'npm error 404 Not Found'; exit 1")
    with pytest.raises(Missing, match=r"^npm x@1\.0\.0: 404 Not Found$"):
        tried.download(Package("npm", "x@1.0.0", "MIT"))
    npm("echo x > x-2.0.0.tgz; echo x-2.0.0.tgz")
    assert [p.name for p in tried.download(Package("npm", "x@2.0.0", "MIT"))] == ["x-2.0.0.tgz"]
    npm("exit 0")
    with pytest.raises(Missing, match="nothing was downloaded"):
        tried.download(Package("npm", "x@3.0.0", "MIT"))
    npm("echo 'npm error code ENOTFOUND'; echo 'npm error network request failed'; exit 1")
    for version in (4, 5):
        with pytest.raises(Unavailable, match=r"^npm: network request failed$"):
            tried.download(Package("npm", f"x@{version}.0.0", "MIT"))
    assert (tmp_path / "calls").read_text().count("npm") == 4  # not asked once more


def test_apt_works_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "etc"
    (system / "sources.list.d").mkdir(parents=True)
    (system / "sources.list").write_text(
        "# a comment\ndeb cdrom:[Debian] stable main\n"
        "deb [arch=amd64] https://example.org/d x main\n"
    )
    stanza = "Types: deb\nURIs: http://example.org/debian\nSuites: stable\nComponents: main\n"
    (system / "sources.list.d" / "debian.sources").write_text(stanza)
    (system / "sources.list.d" / "other.sources").write_text(stanza)
    monkeypatch.setattr(registries, "SYSTEM_APT", system)
    script = """
    lists=$(sed -n 's/^Dir::State::lists "\\(.*\\)";$/\\1/p' "$APT_CONFIG")
    case "$*" in
    *update) echo x > "$lists/main_Sources" ;;
    *source*gone) echo 'E: Unable to find a source package for gone'; exit 100 ;;
    *source*) echo x > a_1.orig.tar.xz; echo x > a_1.dsc ;;
    *download*) echo x > a_1_all.deb ;;
    esac"""
    client(tmp_path / "bin", "apt-get", script, monkeypatch)
    tried = downloads(tmp_path)
    (source,) = tried.download(Package("debian source", "a", "MIT"))
    (binary,) = tried.download(Package("debian", "a", "MIT"))
    assert (source.name, binary.name) == ("a_1.orig.tar.xz", "a_1_all.deb")
    with pytest.raises(Missing, match=r"^debian source gone: Unable to find a source package"):
        tried.download(Package("debian source", "gone", "MIT"))
    asked = {path.name: path.read_text() for path in tried.folder.glob("apt/sources/*")}
    assert asked == {
        "system.list": "".join(
            f"{kind} [arch=amd64] https://example.org/d x main\n" for kind in ("deb", "deb-src")
        ),
        "debian.sources": stanza.replace(
            "Types: deb", "Types: deb deb-src\nTargets: Packages Sources"
        ),
    }
    assert str(system) not in (tried.folder / "apt" / "apt.conf").read_text()

    client(tmp_path / "bin", "apt-get", "echo 'W: Failed to fetch x'; exit 0", monkeypatch)
    with pytest.raises(Unavailable, match=r"^debian: Failed to fetch x$"):
        downloads(tmp_path, "more").download(Package("debian", "a", "MIT"))


# Fetching


class Shelf:
    """Registries that have what they are given; ``asked`` is what was downloaded."""

    def __init__(self) -> None:
        self.archives: dict[str, Mapping[str, str | bytes]] = {}
        self.failing: dict[str, Unavailable] = {}
        self.asked: list[str] = []

    def __call__(self, folder: Path) -> Shelf:
        self.folder = folder
        return self

    def download(self, package: Package) -> list[Path]:
        if package.name in self.failing:
            raise self.failing[package.name]
        self.asked.append(package.name)
        return [tarball(self.folder / f"{package.name}.tgz", self.archives[package.name])]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Two packages each of Go and Rust."""
    shelf, packages = Shelf(), {}
    for language, extension in (("Go", ".go"), ("Rust", ".rs")):
        names = [f"{language}-{number}" for number in (1, 2)]
        packages[language] = tuple(Package("npm", name, "MIT", "src/") for name in names)
        for offset, name in zip((0, 20), names, strict=True):
            members = {f"x/src/{n}{extension}": code(n + offset) for n in range(25)}
            other = {f"x/docs/a{extension}": code(99), f"x/src/test/b{extension}": code(98)}
            shelf.archives[name] = {**members, **other}
    monkeypatch.setattr("blendlaw.samplecode.fetching.PACKAGES", packages)
    monkeypatch.setattr("blendlaw.samplecode.fetching.Registries", shelf)
    return shelf


def test_all_code_is_there_once_in_an_order_by_hash(tmp_path: Path, shelf: Shelf) -> None:
    manifest = fetch(tmp_path / "out")
    found = rows(tmp_path / "out" / "go.jsonl")
    assert {row["text"] for row in found} == {code(n) for n in range(45)}
    assert len(found) == 45 == manifest.languages["Go"].documents
    assert set(found[0]) == {"text", "path", "source"}
    assert {row["source"] for row in found} == {"npm Go-1", "npm Go-2"}
    assert [row["source"] for row in found] != sorted(row["source"] for row in found)
    assert manifest.languages["Go"].bytes == sum(len(row["text"]) for row in found)
    assert [a.package for a in manifest.languages["Go"].archives] == ["npm Go-1", "npm Go-2"]
    assert fetch(tmp_path / "again") == manifest
    assert Manifest.from_json((tmp_path / "out" / "manifest.json").read_text()) == manifest


def test_it_is_an_input_of_the_corpus(tmp_path: Path, shelf: Shelf) -> None:
    fetch(tmp_path)
    pieces, _ = find_pieces([(None, str(path)) for path in sorted(tmp_path.glob("*.jsonl"))])
    texts = [text for piece in pieces for text in read_texts(piece, 1 << 20)]
    assert {text.language for text in texts} == {"Go", "Rust"}
    assert not [text for text in texts if text.skip]


def test_no_more_is_downloaded_than_is_needed(tmp_path: Path, shelf: Shelf) -> None:
    half = sum(len(code(n)) for n in range(12)) / 1e6
    manifest = fetch(tmp_path, megabytes=half)
    assert shelf.asked == ["Go-1", "Rust-1"]
    size = manifest.languages["Go"].bytes
    assert half * 1e6 <= size < half * 1e6 + len(code(24))
    assert len(rows(tmp_path / "go.jsonl")) < 25
    fetch(tmp_path, megabytes=3 * half)
    assert shelf.asked[2:] == ["Go-1", "Go-2", "Rust-1", "Rust-2"]


@pytest.mark.parametrize("megabytes", [0, -1, float("nan")])
def test_no_code_at_all_is_refused(tmp_path: Path, megabytes: float) -> None:
    with pytest.raises(InputError, match="megabytes: must be above 0"):
        fetch(tmp_path, megabytes=megabytes)


def test_what_is_there_is_not_fetched_again(tmp_path: Path, shelf: Shelf) -> None:
    said: list[str] = []
    manifest = fetch(tmp_path)
    shelf.asked.clear()
    assert fetch(tmp_path, progress=said.append) == manifest
    assert (shelf.asked, said) == ([], ["Go: there already", "Rust: there already"])


@pytest.mark.parametrize("harm", ["cut off", "gone", "not noted"])
def test_what_is_not_whole_is_fetched_again(tmp_path: Path, shelf: Shelf, harm: str) -> None:
    manifest = fetch(tmp_path)
    whole = (tmp_path / "go.jsonl").read_bytes()
    if harm == "cut off":
        (tmp_path / "go.jsonl").write_bytes(whole[:-100])
    elif harm == "gone":
        (tmp_path / "go.jsonl").unlink()
    else:
        raw = json.loads((tmp_path / "manifest.json").read_text())
        del raw["languages"]["Go"]
        (tmp_path / "manifest.json").write_text(json.dumps(raw))
    shelf.asked.clear()
    assert fetch(tmp_path) == manifest
    assert shelf.asked == ["Go-1", "Go-2"]
    assert (tmp_path / "go.jsonl").read_bytes() == whole


def test_killed_on_the_way_it_goes_on_with_the_next_language(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killing(message: str) -> None:
        if message.startswith("Rust"):
            raise Killed

    with pytest.raises(Killed):
        fetch(tmp_path, progress=killing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["go.jsonl", "manifest.json"]
    shelf.asked.clear()
    assert set(fetch(tmp_path).languages) == {"Go", "Rust"}
    assert shelf.asked == ["Rust-1", "Rust-2"]


def test_a_package_that_is_missing_is_left_out_and_noted(tmp_path: Path, shelf: Shelf) -> None:
    shelf.failing["Go-1"] = Missing("npm Go-1: 404 Not Found")
    shelf.archives["Rust-1"] = {}
    manifest = fetch(tmp_path)
    assert manifest.languages["Go"].skipped == {"npm Go-1": "npm Go-1: 404 Not Found"}
    assert manifest.languages["Go"].documents == 25
    assert manifest.languages["Rust"].documents == 25
    assert not manifest.unavailable
    shelf.asked.clear()
    shelf.failing.clear()
    assert fetch(tmp_path).languages["Go"].documents == 45  # and nothing else is asked for
    assert shelf.asked == ["Go-1", "Go-2"]


def test_a_language_that_cannot_be_had_is_told(tmp_path: Path, shelf: Shelf) -> None:
    shelf.failing["Go-2"] = Unavailable("npm: no network")
    manifest = fetch(tmp_path)
    assert manifest.unavailable == {"Go": "npm: no network"}
    assert set(manifest.languages) == {"Rust"}
    assert read_manifest(tmp_path, "registries") == manifest
    with pytest.raises(Unavailable, match="no network"):
        fetch(tmp_path, strict=True)
    shelf.failing["Go-2"] = shelf.failing["Go-1"] = Missing("404")
    assert fetch(tmp_path).unavailable == {"Go": "no Go code: 404"}
    shelf.failing.clear()
    healed = fetch(tmp_path)
    assert (list(healed.languages), healed.unavailable) == (["Go", "Rust"], {})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_another_manifest_is_not_written_over(tmp_path: Path, shelf: Shelf, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="not the manifest of such sample code"):
        fetch(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text
    assert not shelf.asked


def test_every_key_of_the_manifest_has_its_place() -> None:
    page = Path(__file__).parents[1] / "docs" / "files.md"
    section = page.read_text(encoding="utf-8").split("\n## Sample code\n")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    each = {f"languages.<language>.{field.name}" for field in fields(LanguageCode)}
    archive = {f"languages.<language>.archives[].{field.name}" for field in fields(Archive)}
    assert told == {"version"} | {field.name for field in fields(Manifest)} | each | archive


# Parallel code

STEMMER = {
    "Python": "class english(Base):\n    def __r_R1(self):\n        return True\n\n"
    "    def __r_R2(self):\n        return False\n\n\nclass lab0(Exception): pass\n",
    "C#": "  public class English\n  {\n    private bool r_R1()\n    {\n        goto lab0;\n"
    "    lab0: ; \n        return true;\n    }\n\n    public bool r_R2()\n    {\n    }\n  }\n",
    "JavaScript": "function English() {\n    function r_R1() {\n        return true;\n    };\n\n"
    "    /** @return {boolean} */\n    function r_R2() {\n    };\n}\n",
    "Java": "private boolean r_R1() {\n    return r_R2();\n}\n\npublic boolean r_R2() {\n}\n",
    "Go": "func r_R1(env *Env, ctx interface{}) bool {\n    return true\n}\n"
    "func r_R2(env *Env, ctx interface{}) bool {\n}\n",
    "Rust": "fn r_R1(env: &mut Env) -> bool {\n    return true;\n}\n"
    "fn r_R2(env: &mut Env) -> bool {\n}\n",
}
SNOWBALL_SOURCE = {
    "snowball-2/compiler/driver.c": "",
    "snowball-2/algorithms/english.sbl": "",
    "snowball-2/algorithms/../../evil.sbl": "",
    "snowball-2/README": "",
}


@pytest.mark.parametrize("language", STEMMER)
def test_routines_are_found(language: str) -> None:
    (first, text), (second, other) = routines_of(STEMMER[language])
    assert (first, second) == ("R1", "R2")
    assert "r_R1" in text.splitlines()[0]
    assert "r_R2()\n{" in other if language == "C#" else "r_R2(" in other.splitlines()[0]
    assert "return" in text
    assert (text.count("def") or text.strip()[-1]) in (1, "}", ";")
    assert brackets_match(text)
    assert brackets_match(other)


def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cc that makes a snowball which writes STEMMER, whatever it is given."""
    cases = [f"{FLAGS[name]}) cat > $4.x <<'END'\n{text}END\n;;" for name, text in STEMMER.items()]
    script = "case $2 in\n" + "\n".join(cases) + "\nesac"
    made = f"cat > snowball <<'MADE'\n#!/bin/sh\n{script}\nMADE\nchmod +x snowball"
    client(tmp_path / "bin", "cc", made, monkeypatch)


def test_a_stemmer_is_its_routines_in_six_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path, monkeypatch)
    archive = tarball(tmp_path / "snowball.tgz", SNOWBALL_SOURCE)
    found = dict(stemmers(archive))
    assert list(found) == ["english/R1", "english/R2"]
    assert set(found["english/R1"]) == set(LANGUAGES) - {"TypeScript"}
    client(tmp_path / "bin", "cc", "echo driver.c: no such header; exit 1", monkeypatch)
    with pytest.raises(Missing, match=r"^snowball\.tgz: cc: driver\.c: no such header$"):
        list(stemmers(archive))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"^cc is not installed$"):
        list(stemmers(archive))


def test_what_has_compiled_code_is_pinned() -> None:
    packages = [package for package, _ in COMPILED]
    assert all("@" in p.name[1:] for p in packages)
    assert not [p for p in (*packages, SNOWBALL) if "GPL" in p.licence]


@pytest.fixture
def parallel_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Two packages with TypeScript and its JavaScript, and Snowball."""
    shelf = Shelf()
    names = ("typed-1", "typed-2")
    packages = [(Package("npm", name, "MIT", "src/"), "dist/") for name in names]
    for offset, name in zip((0, 8), names, strict=True):
        shelf.archives[name] = {
            path: text
            for n in range(offset, offset + 10)
            for path, text in (
                (f"package/src/a/{n}.ts", code(n) + "let typed: number\n"),
                (f"package/dist/a/{n}.js", code(n) + "//# sourceMappingURL=a.js.map\n"),
                (f"package/dist/a/{n}.cjs", code(n) + "other\n"),
                (f"package/dist/a/{n}.d.ts", code(n)),
            )
        } | {
            "package/src/same.ts": code(50),
            "package/dist/same.js": code(50),
            "package/src/alone.ts": code(51),
            "package/dist/a/short.js": "x\n",
            "package/src/a/short.ts": code(52),
            "package/src/a/b.test.ts": code(53),
            "package/dist/a/b.test.js": code(54),
        }
    shelf.archives["snowball"] = SNOWBALL_SOURCE
    compiler(tmp_path, monkeypatch)
    monkeypatch.setattr("blendlaw.samplecode.pairs.COMPILED", packages)
    monkeypatch.setattr("blendlaw.samplecode.pairs.Registries", shelf)
    return shelf


def test_translations_are_tasks_of_the_builder(tmp_path: Path, parallel_shelf: Shelf) -> None:
    said: list[str] = []
    made = fetch_pairs(tmp_path / "out", progress=said.append)
    found = [json.loads(line) for line in (tmp_path / "out" / "tasks.jsonl").open()]
    assert len(found) == made.tasks == 18 + 2
    typed = {one["id"]: one for one in found if "TypeScript" in one["docs"]}
    assert typed["typed-1/a/3"] == {
        "id": "typed-1/a/3",
        "docs": {"TypeScript": code(3) + "let typed: number\n", "JavaScript": code(3)},
        "licence": "MIT",
        "origin": "npm typed-1",
    }
    assert set(typed) == {f"typed-{1 + (n > 9)}/a/{n}" for n in range(18)}  # each text once
    assert [one["id"] for one in found] != sorted(one["id"] for one in found)
    assert made.pairs["JavaScript, TypeScript"] == 18
    assert made.pairs["Python, Rust"] == 2
    assert len(made.pairs) == 1 + 15
    assert made.bytes == sum(len(text) for one in found for text in one["docs"].values())
    assert made.archives[0].package == "debian source snowball"
    assert "JavaScript, TypeScript: 18 tasks" in said
    blocks = find_blocks([str(tmp_path / "out" / "tasks.jsonl")], 1 << 20, sha256())
    tasks = [task for block in blocks for task in read_tasks(block, Reading(tuple(LANGUAGES)))]
    assert [task.id for task in tasks] == [one["id"] for one in found]
    assert {task.licence for task in tasks} == {"MIT", "BSD-3-Clause"}

    parallel_shelf.asked.clear()
    assert fetch_pairs(tmp_path / "out") == made
    assert not parallel_shelf.asked
    assert fetch_pairs(tmp_path / "again") == made


def test_no_more_translations_are_downloaded_than_are_needed(
    tmp_path: Path, parallel_shelf: Shelf
) -> None:
    made = fetch_pairs(tmp_path, megabytes=2 * 2 * len(code(9)) / 1e6)
    assert parallel_shelf.asked == ["snowball", "typed-1"]
    assert made.pairs["JavaScript, TypeScript"] == 2


def test_translations_that_cannot_be_had_are_told(
    tmp_path: Path, parallel_shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    parallel_shelf.failing["typed-1"] = Missing("npm typed-1: 404 Not Found")
    made = fetch_pairs(tmp_path / "out")
    assert made.skipped == {"npm typed-1": "npm typed-1: 404 Not Found"}
    assert made.pairs["JavaScript, TypeScript"] == 10
    parallel_shelf.failing["typed-1"] = Unavailable("npm: no network")
    parallel_shelf.asked.clear()
    made = fetch_pairs(tmp_path / "out")
    assert made.skipped == {"npm typed-1": "npm: no network"}
    assert parallel_shelf.asked == ["snowball"]  # and no other package of npm
    parallel_shelf.failing["snowball"] = Unavailable("debian: no network")
    with pytest.raises(Unavailable, match=r"^no pairs: debian: no network$"):
        fetch_pairs(tmp_path / "none")
    assert main([str(tmp_path / "none"), "--pairs"]) == 1
    assert capsys.readouterr().err.endswith("samplecode: no pairs: debian: no network\n")
    assert not list((tmp_path / "none").iterdir())
    parallel_shelf.failing.clear()
    assert not fetch_pairs(tmp_path / "out").skipped  # what was missing is asked for again


def test_sample_code_and_parallel_code_do_not_share_a_folder(
    tmp_path: Path, shelf: Shelf, parallel_shelf: Shelf
) -> None:
    fetch(tmp_path / "code")
    with pytest.raises(InputError, match="not the manifest of such sample code"):
        fetch_pairs(tmp_path / "code")
    fetch_pairs(tmp_path / "pairs")
    with pytest.raises(InputError, match="not the manifest of such sample code"):
        fetch(tmp_path / "pairs")


def test_every_key_of_the_parallel_manifest_has_its_place() -> None:
    page = Path(__file__).parents[1] / "docs" / "files.md"
    section = page.read_text(encoding="utf-8").split("\n## Parallel sample code\n")[1]
    told = set(re.findall(r"^\| `([^`]+)` \|", section.split("\n## ")[0], re.MULTILINE))
    assert told == {"version", "origin"} | {field.name for field in fields(ParallelCode)}


# Generated code


def brackets_match(text: str) -> bool:
    pairs, open_ones = {")": "(", "]": "[", "}": "{"}, []
    for letter in text:
        if letter in pairs.values():
            open_ones.append(letter)
        elif letter in pairs and (not open_ones or open_ones.pop() != pairs[letter]):
            return False
    return not open_ones


@pytest.mark.parametrize("language", LANGUAGES)
@given(seed=st.integers(0, 10**9))
def test_programs_are_finished(language: str, seed: int) -> None:
    for text in islice(programs(language, seed), 3):
        assert brackets_match(text)
        assert "%(" not in text
        assert text.endswith("\n")
        assert text.isascii()
        if language == "Python":
            ast.parse(text)


@pytest.mark.skipif(shutil.which("node") is None, reason="node parses JavaScript")
def test_programs_are_javascript(tmp_path: Path) -> None:
    path = tmp_path / "programs.json"
    path.write_text(json.dumps(list(islice(programs("JavaScript"), 200))))
    script = (
        "for (const t of JSON.parse(require('fs').readFileSync(0))) new (require('vm').Script)(t)"
    )
    with path.open() as texts:
        subprocess.run(["node", "-e", script], stdin=texts, check=True)


def words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in text.split()}


def test_languages_differ_and_programs_too() -> None:
    sample = {name: list(islice(programs(name), 50)) for name in LANGUAGES}
    for texts in sample.values():
        assert len(set(texts)) == 50
    assert "elif" not in words(sample["Go"])
    assert ":=" in words(sample["Go"]) - words(sample["Rust"])
    assert list(islice(programs("Go", 1), 50)) != sample["Go"]


def test_what_is_generated_says_so_and_is_always_the_same(tmp_path: Path) -> None:
    first = generate(tmp_path / "a", megabytes=0.02)
    second = generate(tmp_path / "b", megabytes=0.02)
    assert first == second
    assert list(first.languages) == LANGUAGES
    assert first.origin == "generated"
    for each in first.languages.values():
        texts = rows(tmp_path / "a" / each.file)
        assert {row["source"] for row in texts} == {"generated by blendlaw"}
        assert 20_000 <= each.bytes < 30_000
        assert (tmp_path / "a" / each.file).read_bytes() == (
            tmp_path / "b" / each.file
        ).read_bytes()
    other = generate(tmp_path / "c", megabytes=0.02, seed=1)
    assert other.languages["Go"].sha256 != first.languages["Go"].sha256


def test_generated_code_does_not_take_the_place_of_real_code(tmp_path: Path, shelf: Shelf) -> None:
    fetch(tmp_path)
    with pytest.raises(InputError, match="not the manifest of such sample code"):
        generate(tmp_path, megabytes=0.01)


# Real where it can be had


def test_real_code_where_all_of_it_is_there(tmp_path: Path, shelf: Shelf) -> None:
    sample = sample_code(tmp_path, 0.01)
    assert not sample.generated
    assert sample.reason is None
    assert sample.files == {"Go": tmp_path / "go.jsonl", "Rust": tmp_path / "rust.jsonl"}
    assert sample.licences == ["MIT"]


def test_all_is_generated_where_one_language_is_missing(tmp_path: Path, shelf: Shelf) -> None:
    said: list[str] = []
    shelf.failing["Rust-1"] = Unavailable("npm: no network")
    sample = sample_code(tmp_path, 0.01, progress=said.append)
    assert sample.generated
    assert sample.reason == "npm: no network"
    assert "generating code instead: npm: no network" in said
    assert list(sample.files) == LANGUAGES
    assert all(path.parent == tmp_path / "generated" for path in sample.files.values())
    assert sample.licences == []
    assert set(read_manifest(tmp_path, "registries").languages) == {"Go"}  # what is real stays
    shelf.failing.clear()
    assert not sample_code(tmp_path, 0.01).generated


def test_generated_code_can_be_asked_for(tmp_path: Path, shelf: Shelf) -> None:
    sample = sample_code(tmp_path, 0.01, generated=True)
    assert (sample.generated, sample.reason) == (True, "generated code was asked for")
    assert not shelf.asked


def test_the_command_line(tmp_path: Path, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main([out]) == 0
    assert main([out, "--megabytes", "0"]) == 1
    assert main([out, "--generated"]) == 1
    assert main([str(tmp_path / "made"), "--generated", "--megabytes", "0.01"]) == 0
    shelf.failing["Go-1"] = Unavailable("npm: no network")
    capsys.readouterr()
    assert main([out, "--megabytes", "1"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("samplecode: Go: npm: no network\n")


def test_the_names_of_the_package_are_there() -> None:
    for name in samplecode.__all__:
        assert hasattr(samplecode, name)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("BLENDLAW_NETWORK_TESTS"),
    reason="downloads 30 MB: set BLENDLAW_NETWORK_TESTS to run it",
)
def test_the_registries_give_all_seven_languages(tmp_path: Path) -> None:
    manifest = fetch(tmp_path, megabytes=0.5)
    if manifest.unavailable:
        pytest.skip(f"registries cannot be reached: {manifest.unavailable}")
    assert list(manifest.languages) == LANGUAGES
    for language, each in manifest.languages.items():
        assert each.bytes >= 500_000, language
        assert each.archives
        assert all(row["text"].strip() for row in rows(tmp_path / each.file))


def test_parallel_programs_are_the_same_in_all_languages(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--parallel", "20"]) == 0
    found = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == [f"generated/{number}" for number in range(20)]
    for row in found:
        assert list(row["docs"]) == LANGUAGES
        tree = ast.parse(row["docs"]["Python"])
        functions = [one.name for one in tree.body if isinstance(one, ast.FunctionDef)]
        assert functions
        assert re.findall(r"pub fn (\w+)", row["docs"]["Rust"]) == functions
    assert len({row["docs"]["Go"] for row in found}) == 20
    first = (tmp_path / "tasks.jsonl").read_bytes()
    samplecode.generate_parallel(tmp_path, 20)
    assert (tmp_path / "tasks.jsonl").read_bytes() == first
