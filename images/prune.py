"""Leaves of the base image what a trainer runs on: no package manager, no pip, no Unix tools, no manuals.

Runs in a build stage that is then copied whole. Packages disappear from dpkg's list together with their files, so that
scanners see the truth; licences stay.
"""

import shutil
from pathlib import Path

UNUSED = [
    "apt",
    "libapt-pkg6.0",
    "debian-archive-keyring",
    "gpgv",
    "adduser",
    "debconf",
    "libdebconfclient0",
    "perl-base",
    "dpkg",
    "init-system-helpers",
    "python3-pip",
    "python3-pip-whl",
    "python3-setuptools",
    "python3-setuptools-whl",
    "python3-wheel",
    "python3-pkg-resources",
    "python3-distutils",
    "python3-lib2to3",
    "python3-venv",
    "python3.11-venv",
    "mount",
    "e2fsprogs",
    "libext2fs2",
    "libss2",
    "logsave",
    "login",
    "passwd",
    "util-linux",
    "util-linux-extra",
    "bsdutils",
    "sysvinit-utils",
    "hostname",
    "tzdata",
    "bash",
    "coreutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "mawk",
    "ncurses-bin",
    "openssl",
    "sed",
    "tar",
    "debianutils",
    "libgnutls30",
    "libhogweed6",
    "libnettle8",
    "libp11-kit0",
    "libtasn1-6",
    "libidn2-0",
    "libunistring2",
    "libgcrypt20",
    "libgpg-error0",
    "libsystemd0",
    "libudev1",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libpam0g",
    "libsemanage2",
    "libsemanage-common",
    "libsepol2",
    "libaudit1",
    "libaudit-common",
    "libseccomp2",
    "libxxhash0",
    "libsmartcols1",
    "libmount1",
    "libblkid1",
    "libcap-ng0",
]
TREES = [
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/perl5",
    "/usr/share/lintian",
    "/usr/share/python-wheels",
    "/usr/share/bash-completion",
    "/usr/local/include",
    "/usr/local/share/man",
    "/usr/lib/python3/dist-packages",
    "/etc/apt",
    "/etc/pam.d",
    "/var/lib/apt",
    "/var/lib/pam",
    "/var/lib/dpkg/info",
    "/var/cache",
    "/var/log",
    "/var/backups",
    "/images",
]
OF_PYTHON = [
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
    "turtledemo",
    "config-3*",
    "site-packages/*",
]
COMMANDS = ["pip*", "idle*", "2to3*", "pydoc*", "python*-config", "wheel"]


def main() -> None:
    status = Path("/var/lib/dpkg/status")
    info = Path("/var/lib/dpkg/info")
    kept = []
    for entry in status.read_text("utf-8").split("\n\n"):
        name = entry.partition("Package: ")[2].partition("\n")[0].strip()
        if name not in UNUSED:
            kept.append(entry)
            continue
        for listing in (*info.glob(f"{name}.list"), *info.glob(f"{name}:*.list")):
            for line in listing.read_text("utf-8").splitlines():
                path = Path(line)
                if not path.is_dir() and path.name != "copyright":  # a directory may be a link, as /bin is
                    path.unlink(missing_ok=True)
    status.write_text("\n\n".join(kept), "utf-8")
    for path in Path("/usr/share/doc").rglob("*"):
        if path.is_file() and path.name != "copyright":
            path.unlink()
    pythons = (*Path("/usr/lib").glob("python3.*"), *Path("/usr/local/lib").glob("python3.*"))  # Debian's, python.org's
    trees = [*map(Path, TREES), *(path for top in pythons for pattern in OF_PYTHON for path in top.glob(pattern))]
    trees += Path("/usr/lib").glob("*/gconv")  # character sets for iconv; Python has its own
    trees += [path for pattern in COMMANDS for path in Path("/usr/local/bin").glob(pattern)]
    for path in trees:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


main()
