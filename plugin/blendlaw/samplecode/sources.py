"""Which packages give the code of a language, the first of them enough for a demo.

Permissive licences only. What npm has is pinned. Debian replaces versions, so its packages are
not: the manifest records what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package of ``registry``: "npm", "debian" (a package of sources for building with),
    "debian source" (a source package) or "python" (the running interpreter).

    ``keep`` is a regular expression that the paths of its code match at their beginning; those of
    npm and of source packages begin below the archive's one folder.
    """

    registry: str
    name: str
    licence: str
    keep: str = ""

    @property
    def label(self) -> str:
        """Its registry and name, in one line."""
        return f"{self.registry} {self.name}".strip()


MIT = "MIT"
APACHE = "Apache-2.0"
BSD = "BSD-3-Clause"
EITHER = "MIT OR Apache-2.0"

# Small packages with much code come first: as many are downloaded as it takes.
PACKAGES: Mapping[str, tuple[Package, ...]] = {
    "Python": (Package("python", "standard library", "PSF-2.0"),),
    "Java": (
        Package("debian source", "jackson-databind", APACHE, "src/main/"),
        Package("debian source", "libcommons-lang3-java", APACHE, "src/main/"),
        Package("debian source", "commons-math3", APACHE, "src/main/"),
        # android/ holds nearly the same once more
        Package("debian source", "guava-libraries", APACHE, "guava/src/"),
        Package("debian source", "netty", APACHE),
    ),
    "JavaScript": (
        Package("npm", "eslint@10.15.0", MIT, "lib/"),
        Package("npm", "webpack@5.112.2", MIT, "lib/"),
        Package("npm", "three@0.187.0", MIT, "(src|examples/jsm)/(?!libs/)"),
        Package("npm", "mathjs@15.2.0", APACHE, "lib/esm/"),
    ),
    "TypeScript": (
        Package("npm", "mongodb@7.9.0", APACHE, "src/"),
        Package("npm", "zod@4.6.7", MIT, "src/"),
        Package("npm", "@xterm/xterm@6.0.0", MIT, "src/"),
        Package("npm", "puppeteer-core@24.43.1", APACHE, "src/"),
        Package("npm", "rxjs@7.8.2", APACHE, "src/"),
        Package("npm", "matrix-js-sdk@37.5.0", APACHE, "src/"),
        Package("npm", "viem@2.57.20", MIT, "(?!_)"),
        Package("npm", "effect@3.22.4", MIT, "src/"),
        Package("npm", "ethers@6.17.0", MIT, "src.ts/"),
    ),
    "C#": (
        Package("debian source", "dnlib", MIT),
        Package("debian source", "newtonsoft-json", MIT),
        Package("debian source", "nunit", "zlib-acknowledgement"),
        # 118 MB, and more code than all others of the language
        Package(
            "debian source",
            "mono",
            MIT,
            r"external/(corefx/src/[^/]+/src|corert/src/System\.Private\.CoreLib)/",
        ),
    ),
    "Go": (
        Package("debian source", "golang-golang-x-tools", BSD),
        Package("debian source", "golang-github-evanw-esbuild", MIT),
        Package("debian source", "golang-golang-x-net", BSD),
        Package("debian source", "golang-go.crypto", BSD),
        Package("debian", "golang-1.19-src", BSD, r"usr/share/go-[\d.]+/src/(?!cmd/|vendor/)"),
    ),
    "Rust": (
        Package("debian", "librust-tokio-dev", MIT),
        Package("debian", "librust-winit-dev", APACHE),
        Package("debian", "librust-image-dev", MIT),
        Package("debian", "librust-hyper-dev", MIT),
        Package("debian", "librust-gimli-dev", EITHER),
        Package("debian", "librust-rav1e-dev", "BSD-2-Clause"),
        Package("debian", "rust-src", EITHER, "usr/src/rustc-[^/]+/(library|compiler)/"),
    ),
}

SNOWBALL = Package("debian source", "snowball", BSD)

# TypeScript in the folder ``keep``, and the folder of the JavaScript that it was published with:
# file by file, readable, and as ECMAScript's modules where there are those.
COMPILED: tuple[tuple[Package, str], ...] = (
    (Package("npm", "ajv@8.20.0", MIT, "lib/"), "dist/"),
    (Package("npm", "rxjs@7.8.2", APACHE, "src/"), "dist/esm/"),
    (Package("npm", "cheerio@1.2.0", MIT, "src/"), "dist/esm/"),
    (Package("npm", "css-select@7.0.0", "BSD-2-Clause", "src/"), "dist/"),
    (Package("npm", "htmlparser2@12.0.0", MIT, "src/"), "dist/"),
    (Package("npm", "@msgpack/msgpack@3.1.3", "ISC", "src/"), "dist.esm/"),
    (Package("npm", "@noble/hashes@2.4.0", MIT, "src/"), ""),
    (Package("npm", "chevrotain@11.2.0", APACHE, "src/"), "lib/src/"),
    (Package("npm", "@grpc/grpc-js@1.14.7", APACHE, "src/"), "build/src/"),
    (Package("npm", "@tanstack/query-core@5.108.4", MIT, "src/"), "build/modern/"),
    (Package("npm", "@noble/curves@2.4.0", MIT, "src/"), ""),
    (Package("npm", "langium@4.4.0", MIT, "src/"), "lib/"),
    (Package("npm", "mongodb@7.9.0", APACHE, "src/"), "lib/"),
    (Package("npm", "puppeteer-core@24.43.1", APACHE, "src/"), "lib/esm/puppeteer/"),
    (Package("npm", "zod@4.6.7", MIT, "src/"), ""),
    (Package("npm", "ethers@6.17.0", MIT, "src.ts/"), "lib.esm/"),
    (Package("npm", "effect@3.22.4", MIT, "src/"), "dist/esm/"),
    (Package("npm", "viem@2.57.20", MIT, ""), "_esm/"),
)
