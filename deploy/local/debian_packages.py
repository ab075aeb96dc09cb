"""Debian packages of another release, unpacked into a folder of ours; the machine's own APT is not touched.

APT is given a state of its own (lists, cache, an empty list of installed packages) and one source: the site
that this machine already uses, with another suite. So its signatures are checked as always, and a machine
behind a mirror keeps using its mirror. The unpacked programs then get that release's own loader and C
library.

Neighbours: `timescale` says which package it wants; `downloads` runs the commands.
Guarantee: nothing outside the given folders is written; works without root.
"""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.downloads import run_bounded
from schema.errors import Unavailable

SOURCES = Path("/etc/apt")
UPDATE_SECONDS = 150.0
DOWNLOAD_SECONDS = 240.0
UNPACK_SECONDS = 60.0
PATCH_SECONDS = 30.0
REMEDY = (
    "The local database comes from Debian's packages and needs a Debian 12 or 13 machine. Elsewhere, give "
    "the address of a TimescaleDB of your own in WEIR_DATABASE_DSN."
)


@dataclass(frozen=True, slots=True)
class Source:
    """One site of Debian's packages and the keys that sign for it (None: the keys that APT trusts anyway)."""

    site: str
    signed_by: str | None


@dataclass(frozen=True, slots=True)
class Apt:
    """An APT with a state of its own in `folder`."""

    folder: Path

    def prepare(self, source: Source, suite: str) -> None:
        """Lay out the state and fetch the suite's lists."""
        for part in ("state/lists/partial", "cache/archives/partial", "archives"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        stanza = f"Types: deb\nURIs: {source.site}\nSuites: {suite}\nComponents: main\n"
        if source.signed_by is not None:
            stanza += f"Signed-By: {source.signed_by}\n"
        (self.folder / "weir.sources").write_text(stanza, encoding="utf-8")
        self._run(["update"], timeout_seconds=UPDATE_SECONDS, purpose=f"reading the package lists of {suite}")

    def needed_by(self, package: str) -> list[tuple[str, str]]:
        """Names and versions of the package and of all that it needs, nothing being installed yet."""
        lines = self._run(
            ["--simulate", "install", package],
            timeout_seconds=UPDATE_SECONDS,
            purpose=f"finding what {package} needs",
        )
        planned = (re.match(r"Inst (\S+) \((\S+)", line) for line in lines)
        return [(found[1], found[2]) for found in planned if found is not None]

    def download(self, packages: Sequence[tuple[str, str]], on_line: Callable[[str], None]) -> list[Path]:
        """Fetch the packages, checked against the signed lists; returns their files."""
        archives = self.folder / "archives"
        self._run(
            ["download", *(f"{name}={version}" for name, version in packages)],
            timeout_seconds=DOWNLOAD_SECONDS,
            purpose="fetching the database's packages",
            on_line=on_line,
            directory=archives,
        )
        return sorted(archives.glob("*.deb"))

    def _run(
        self,
        arguments: Sequence[str],
        *,
        timeout_seconds: float,
        purpose: str,
        on_line: Callable[[str], None] = lambda _line: None,
        directory: Path | None = None,
    ) -> list[str]:
        options = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourcelist": self.folder / "weir.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            # Catalogues for graphical shops, which some machines fetch along with every list.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Retries": "3",
            "Acquire::http::Timeout": "30",
            "Acquire::https::Timeout": "30",
            # Root's APT would fetch as a user who cannot write into our folder, and complain about it.
            "APT::Sandbox::User": "root",
        }
        apt = shutil.which("apt-get")
        if apt is None:
            raise Unavailable(REMEDY)
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        return run_bounded(
            [apt, "-q", *flags, *arguments],
            timeout_seconds=timeout_seconds,
            purpose=purpose,
            on_line=on_line,
            directory=directory,
        )


def machine_source(folder: Path = SOURCES) -> Source:
    """The site that this machine takes Debian's own packages from.

    Reads both ways of writing sources, and takes the first site that offers `main` of a release (not of its
    security updates, which live elsewhere).

    Raises:
        Unavailable: this machine has no such site.
    """
    for path in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            found = source_of_stanza(stanza)
            if found is not None:
                return found
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                found = source_of_line(line)
                if found is not None:
                    return found
    raise Unavailable(REMEDY)


def source_of_stanza(stanza: str) -> Source | None:
    """The source in one block of a `.sources` file, if it is Debian's."""
    fields = {
        name.lower(): value.strip()
        for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, flags=re.MULTILINE)
    }
    if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
        return None
    suites, sites = fields.get("suites", "").split(), fields.get("uris", "").split()
    if not sites or "main" not in fields.get("components", "").split() or not is_release(sites[0], suites):
        return None
    # Keys written out in the block itself begin on the lines after; APT's trusted ones serve then.
    return Source(sites[0], fields.get("signed-by") or None)


def source_of_line(line: str) -> Source | None:
    """The source in one line of a `.list` file, if it is Debian's."""
    found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)$", line)
    if found is None or "main" not in found[4].split("#")[0].split() or not is_release(found[2], [found[3]]):
        return None
    signed_by = re.search(r"signed-by=(\S+)", found[1] or "")
    return Source(found[2], signed_by[1] if signed_by else None)


def is_release(site: str, suites: Sequence[str]) -> bool:
    """Whether a site with these suites is a mirror of Debian's main archive."""
    releases = {"bookworm", "trixie", "forky", "stable", "oldstable", "testing", "sid", "unstable"}
    return "security" not in site and any(suite in releases for suite in suites)


def unpack(archives: Sequence[Path], root: Path) -> None:
    """Unpack the packages' files below `root`; their scripts are not run."""
    for archive in archives:
        run_bounded(
            ["dpkg-deb", "--extract", str(archive), str(root)],
            timeout_seconds=UNPACK_SECONDS,
            purpose=f"unpacking {archive.name}",
        )


def give_own_loader(program: Path, root: Path, final_root: Path) -> None:
    """Make a program below `root` use the loader and libraries that were unpacked with it.

    `final_root` is where `root` will lie when it runs: the loader's path has to be absolute.
    """
    patchelf = patchelf_program()
    loader_name = run_bounded(
        [patchelf, "--print-interpreter", str(program)],
        timeout_seconds=PATCH_SECONDS,
        purpose=f"reading {program.name}",
    )[-1].rsplit("/", 1)[-1]
    loader = next(iter(sorted((root / "usr/lib").glob(f"*/{loader_name}"))), None)
    if loader is None:
        raise Unavailable(f"the packages hold no {loader_name} for {program.name}")
    libraries = loader.parent.relative_to(root)
    run_bounded(
        [
            *(patchelf, "--set-interpreter", str(final_root / libraries / loader_name)),
            # The older kind of search path: it also holds for what the libraries themselves need.
            *("--force-rpath", "--set-rpath", str(final_root / libraries), str(program)),
        ],
        timeout_seconds=PATCH_SECONDS,
        purpose=f"giving {program.name} its own libraries",
    )


def patchelf_program() -> str:
    """patchelf, which comes with our requirements, so beside this Python; else the machine's own."""
    beside = Path(sys.executable).parent / "patchelf"
    found = str(beside) if beside.is_file() else shutil.which("patchelf")
    if found is None:
        raise Unavailable("patchelf is missing: make setup installs it with the other requirements")
    return found
