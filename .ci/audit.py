"""Known vulnerabilities of what gendercls and its extras install here, by pip-audit: python .ci/audit.py

Ends with 1 where one is reported. Where the service cannot be asked, that is said and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

OWN = Requirement("gendercls[cuda,train,heif]")  # not what tests and checks it
CONTROL = {"pillow": "9.0.0"}  # a release that has some
CACHE = Path(__file__).parents[1] / ".venv" / "pip-audit"


def main() -> int:
    """The exit status."""
    packages = installed()
    try:
        check_service()
        answers = ask(packages)
    except ValueError as error:
        print(f"vulnerabilities were not looked up: {error}")
        return 0
    found = [(answer, known) for answer in answers for known in answer.get("vulns", ())]
    for answer, known in found:
        mended = ", ".join(known["fix_versions"]) or "no version yet"
        print(f"{answer['name']} {answer['version']} has {known['id']}, mended in {mended}")
    unknown = ", ".join(answer["name"] for answer in answers if "skip_reason" in answer)
    print(f"{len(found)} known vulnerabilities in {len(packages)} packages; without an answer: {unknown or 'none'}")
    return 1 if found else 0


def installed() -> dict[str, str]:
    """The version of each package that gendercls and its extras need, as far as it is installed."""
    versions: dict[str, str] = {}
    waiting, seen = [OWN], set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            with suppress(PackageNotFoundError):
                package = distribution(name)
                versions[name] = Version(package.version).public
                needed = map(Requirement, package.requires or ())
                waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    del versions[OWN.name]
    return versions


def check_service() -> None:
    """Raises ValueError where nobody answers, or where a mirror that does not tell them stands in for who does."""
    if not any(answer.get("vulns") for answer in ask(CONTROL)):
        raise ValueError("who was asked knows none of a release that has some")


def ask(packages: dict[str, str]) -> list[dict[str, Any]]:
    """What pip-audit says of each package. Raises ValueError where it breaks off."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in packages.items())
        file.flush()
        options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "15")
        command = [sys.executable, "-m", "pip_audit", *options, "--cache-dir", str(CACHE), "--requirement", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise ValueError(f"pip-audit: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}") from None
    return answers


if __name__ == "__main__":
    sys.exit(main())
