"""Prints the software bill of materials of the image that it runs in, as CycloneDX 1.6 JSON: `make sbom`.

Python's packages with what they say of their licence, the networks with licence and sha256, and the packages of
Debian that are left.
"""

import json
import os
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def python_package(found: Distribution) -> dict[str, Any]:
    """Return the component of an installed distribution."""
    told = found.metadata
    name = told["Name"].lower().replace("_", "-")
    prefix = "License :: OSI Approved :: "
    classified = [line.removeprefix(prefix) for line in told.get_all("Classifier") or [] if line.startswith(prefix)]
    free_text = (told.get("License") or "").strip().partition("\n")[0]
    stated = told.get("License-Expression")
    licence = {"expression": stated} if stated else named(", ".join(classified) or free_text)
    return component("library", name, found.version, licence, purl=f"pkg:pypi/{name}@{found.version}")


def network(path: Path) -> dict[str, Any]:
    """Return the component of a pretrained network, described by its encoder.json."""
    told = json.loads(path.read_text("utf-8"))
    source = told["source"]
    licence = {"expression": told["licence"]}
    made = component("machine-learning-model", told["name"], source["version"], licence)
    files = [{"alg": "SHA-256", "content": told["sha256"]}]
    return {**made, "hashes": files, "description": f"made from {source['package']} {source['version']}"}


def debian_package(entry: str) -> dict[str, Any]:
    """Return the component of one entry of dpkg's list; its licence stands in /usr/share/doc."""
    fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and line[0] != " ")
    name, version = fields["Package"], fields["Version"]
    licence = named(f"see /usr/share/doc/{name}/copyright")
    return component("library", name, version, licence, purl=f"pkg:deb/debian/{name}@{version}?distro=bookworm")


def named(licence: str) -> dict[str, Any]:
    """Return a licence that is told in words."""
    return {"license": {"name": licence if licence not in ("", "UNKNOWN") else "not stated"}}


def component(kind: str, name: str, version: str, licence: dict[str, Any], **more: str) -> dict[str, Any]:
    """Return a component of the bill."""
    return {"type": kind, "name": name, "version": version, "licenses": [licence], **more}


def main() -> None:
    networks = sorted(Path(os.environ.get("MODEL_TRAINER_PRETRAINED", "/none")).glob("*/encoder.json"))
    entries = Path("/var/lib/dpkg/status").read_text("utf-8").split("\n\n")
    components = [python_package(each) for each in distributions()]
    components += [network(path) for path in networks]
    components += [debian_package(entry) for entry in entries if entry.strip()]
    components.sort(key=lambda each: (each["type"], each["name"]))
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    json.dump(bill, sys.stdout, indent=1)
    sys.stdout.write("\n")


main()
