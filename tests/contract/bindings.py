"""NVIDIA's real Python bindings of each TensorRT, importable on any Linux machine.

NVIDIA publishes the bindings without the libraries as small wheels. What the extension module needs of the libraries
is a handful of functions, so libraries of the same names that define them, each returning null, are compiled beside it:
the module imports, its enumerations and classes are NVIDIA's, and what Python may subclass can be made. What TensorRT
itself makes (a builder, a runtime) comes out as null, which the bindings refuse with TypeError.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile


class UnavailableError(Exception):
    """The bindings could not be got, for a reason outside this project: no network, no compiler."""


class NoWheelError(Exception):
    """NVIDIA has no wheel of this version for the running Python."""


@dataclass(frozen=True)
class Bindings:
    """One version of the bindings.

    Attributes:
        version: As NVIDIA has it.
        pythons: The first and the last minor version of Python 3 that it has wheels for; no last where more may come.
    """

    version: str
    pythons: tuple[int, int | None]

    @property
    def package(self) -> str:
        """The distribution that holds it."""
        return "tensorrt-bindings" if self.version.startswith("8.") else "tensorrt-cu12-bindings"

    @property
    def major(self) -> int:
        """8, 10 or 11."""
        return int(self.version.partition(".")[0])


VERSIONS = (
    Bindings("8.6.1", (6, 11)),
    Bindings("10.0.1", (8, 12)),
    Bindings("10.9.0.34", (8, 13)),
    Bindings("10.16.1.11", (8, 13)),
    Bindings("11.0.0.114", (8, 13)),
    Bindings("11.4.0.106", (8, None)),
)
"""The last 8; the oldest, a middle and the newest 10; the oldest and the newest 11."""


def cache_folder() -> Path:
    """Where the bindings are kept: ``$TRTCAL_CONTRACT_CACHE``, else in the user's cache folder."""
    if folder := os.environ.get("TRTCAL_CONTRACT_CACHE"):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trtcal" / "contract"


def prepared(bindings: Bindings) -> Path:
    """A folder that gives the real module of `bindings` as `tensorrt` when it is on `sys.path`; made where missing.

    Raises:
        NoWheelError: There is no wheel for the running Python.
        UnavailableError: It cannot be downloaded, or there is no C compiler.
    """
    python = f"cp3{sys.version_info.minor}"
    first, last = bindings.pythons
    if sys.version_info.minor < first or (last is not None and sys.version_info.minor > last):
        span = f"3.{first} to 3.{last}" if last is not None else f"3.{first} and later"
        raise NoWheelError(f"{bindings.package} {bindings.version} has wheels for Python {span} only")
    if not sys.platform.startswith("linux"):
        raise NoWheelError(f"the stub libraries for {bindings.package} are made for Linux, not for {sys.platform}")
    folder = cache_folder() / f"{bindings.version}-{python}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as work:
            made = _made(bindings, Path(work))
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
    return folder


def _made(bindings: Bindings, work: Path) -> Path:
    with zipfile.ZipFile(_downloaded(bindings, work)) as wheel:
        wheel.extractall(work / "wheel")
    made = work / "made"
    made.mkdir()
    # The `tensorrt` package of a real installation hands on what `tensorrt_bindings` holds; here it is that package.
    shutil.move(work / "wheel" / "tensorrt_bindings", made / "tensorrt")
    _make_stubs(made / "tensorrt" / "tensorrt.so")
    return made


def _downloaded(bindings: Bindings, work: Path) -> Path:
    wanted = f"{bindings.package}=={bindings.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--retries=1", "--timeout=10", "--dest", str(work), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "pip" in line]
        raise UnavailableError(f"cannot download {wanted}: {' '.join(said) or done.stderr.strip()}")
    return wheels[0]


def _make_stubs(module: Path) -> None:
    """Compile the libraries that `module` needs into its folder, where it looks for them first."""
    libraries, symbols = _needed(module)
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise UnavailableError("the stub libraries need a C compiler: there is no cc; install gcc, or set CC")
    source = module.with_name("stubs.c")
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    for library in libraries:
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(module.with_name(library))]
        subprocess.run([*command, str(source)], check=True, capture_output=True)


def _needed(module: Path) -> tuple[list[str], list[str]]:
    """The TensorRT libraries that `module` is linked with, and the symbols that nothing in this process has."""
    with module.open("rb") as file:
        elf = ELFFile(file)
        libraries = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
        symbols = [
            symbol.name
            for symbol, version in zip(
                elf.get_section_by_name(".dynsym").iter_symbols(),
                elf.get_section_by_name(".gnu.version").iter_symbols(),
                strict=True,
            )
            if symbol.name
            and symbol["st_shndx"] == "SHN_UNDEF"
            and symbol["st_info"]["bind"] == "STB_GLOBAL"
            and version["ndx"] in ("VER_NDX_LOCAL", "VER_NDX_GLOBAL")  # no version: not the C or the C++ library's
        ]
    process = ctypes.CDLL(None)
    return (
        [library for library in libraries if re.match(r"libnv", library)],
        [symbol for symbol in symbols if not hasattr(process, symbol)],
    )
