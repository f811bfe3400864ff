"""Other projects' programs for real arms, each in a separate environment under `.cache/clients`.

They are installed once, with the Python that runs the tests. Without PyPI the tests fail; `WITHOUT_PYPI=1` skips them.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "clients"
INSTALL_TIMEOUT_S = 300
CLIENTS = {
    "scservo": ("feetech-servo-sdk==1.0.0", "pyserial==3.5"),
    "rustypot": ("rustypot==1.13.1",),
    "feetech-cli": ("feetech-cli==0.1.8", "pyserial==3.5", "colorama==0.4.6", "readchar==4.2.2"),
}


def client_environment(name: str) -> Path:
    """The folder `bin` of the environment of one of CLIENTS; created if it does not exist."""
    requirements = CLIENTS[name]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = sha256(" ".join(requirements).encode()).hexdigest()[:8]
    environment = CACHE / f"{name}-{version}-{digest}"
    environment.mkdir(parents=True, exist_ok=True)
    with (environment / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may need it at the same time
        if not (environment / "complete").exists():
            if os.environ.get("WITHOUT_PYPI"):
                pytest.skip(f"{name} is not installed yet, and WITHOUT_PYPI is set")
            _install(environment, requirements)
            (environment / "complete").touch()
    return environment / "bin"


def _install(environment: Path, requirements: tuple[str, ...]) -> None:
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    for command in ([sys.executable, "-m", "venv", str(environment)], [*pip, "--quiet", *requirements]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        if done.returncode:
            pytest.fail(
                f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}\n"
                "hint: is PyPI within reach? WITHOUT_PYPI=1 skips the tests with other projects' clients"
            )
