"""Machines that lack something, imitated with namespaces; and what a command does on the wire."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READS_ALL = "+dac_read_search"  # the Python of these tests may lie in root's home


@cache
def _works(command: str) -> bool:
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    return done.returncode == 0


def needs_namespaces() -> None:
    if not (os.getuid() == 0 and _works("unshare -m true && setpriv --version")):
        pytest.skip("unshare -m and setpriv are not allowed here")


def needs_strace() -> None:
    if not _works("strace -f -e trace=connect true"):
        pytest.skip("strace is missing or may not attach here")


def read_only(command: list[str], *, uid: int = 0, tmp: str = "size=64m,mode=1777") -> list[str]:
    """The command on a read-only root with a file system of its own at /tmp.

    Args:
        command: what runs; its input must not lie below /tmp.
        uid: of the user, who then has no passwd entry; 0 stays root.
        tmp: mount options of /tmp; "ro" for none that can be written.
    """
    mounts = sorted({line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()})
    lines = ["mount --make-rprivate /"]
    lines += [
        f"mount -o remount,bind,ro {shlex.quote(place)} 2>/dev/null"
        for place in mounts
        if not place.startswith(("/proc", "/sys", "/dev"))
    ]
    lines += ["mount -t tmpfs -o ro none /var/tmp", "mount -t tmpfs -o ro none /dev/shm"]
    lines += [f"mount -t tmpfs -o {tmp} none /tmp || exit 99"]
    user: list[str] = []
    if uid:
        drop = [f"--inh-caps=-all,{READS_ALL}", f"--ambient-caps={READS_ALL}"]
        drop.append(f"--bounding-set=-all,{READS_ALL}")
        user = ["setpriv", *drop, f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    lines.append("exec " + shlex.join([*user, *command]))
    return ["unshare", "-m", "bash", "-c", "\n".join(lines)]


def traced(command: list[str], log: Path) -> list[str]:
    """The command under strace, which writes what goes over the network to `log`.

    The process that is started is the command itself: signals reach it.
    """
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    options = ["-D", "-f", "-qq", "-s", "300", "-e", calls, "-e", "signal=none", "-o", str(log)]
    return ["strace", *options, *command]


def hosts_in(log: Path) -> set[str]:
    """Names that were looked up, and addresses other than this machine's that were called."""
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        if "htons(53)" in line:
            found.add("a look-up")
        for address in re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line):
            if not "".join(address).startswith(("127.", "::1")):
                found.add("".join(address))
    return found


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def program(name: str) -> str:
    """Path of a command of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if not found:
        pytest.skip(f"{name} is not installed here")
    return found
