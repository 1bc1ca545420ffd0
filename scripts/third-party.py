"""Writes what the libraries in the gateway's binary want said: each one's licence and the texts that come with it.

Libraries are the crates that the gateway is built from, with the C and C++ code in them, and the packages of the web
client. A library without a text is told at the end with its licence's name; one without either fails.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What comes from neither registry: built into libzmq, from Debian's package.
SYSTEM = {"libsodium": Path("/usr/share/doc/libsodium-dev/copyright")}

NAMES = ("license", "licence", "copying", "notice", "copyright", "unlicense")


def crates() -> list[tuple[str, str, Path]]:
    """Name, licence and folder of everything that is linked in."""
    rustc = subprocess.run(["rustc", "-vV"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    host = next(line.removeprefix("host: ") for line in rustc.splitlines() if line.startswith("host: "))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    begin = next(each for each in metadata["packages"] if each["name"] == "stack-gateway")
    seen, ahead = set(), [begin["id"]]
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            for dependency in nodes[name]["deps"]:
                # A crate that builds C code carries it, though only another one's build asks for it.
                if any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"]):
                    ahead.append(dependency["pkg"])
    found = []
    for package in (packages[name] for name in seen):
        if package["source"] is not None or "/vendor/" in package["manifest_path"]:
            licence = package["license"] or package["license_file"] or ""
            found.append((f"{package['name']} {package['version']}", licence, Path(package["manifest_path"]).parent))
    return found


def client_packages() -> list[tuple[str, str, Path]]:
    """The same of what the web client carries."""
    web = ROOT / "apps" / "web"
    locked = json.loads((web / "package-lock.json").read_text())["packages"]
    found = []
    for place, package in locked.items():
        if place and not package.get("dev") and not package.get("optional"):
            name = place.removeprefix("node_modules/")
            found.append((f"{name} {package['version']} (web client)", package.get("license", ""), web / place))
    return found


def texts(folder: Path) -> list[str]:
    """What lies in a library about its licence, that of code it brings along too."""
    found = []
    for path in sorted(folder.rglob("*")):
        is_text = path.is_file() and path.suffix.lower() in ("", ".txt", ".md", ".apache", ".mit")
        if is_text and path.stem.lower().startswith(NAMES) and path.stat().st_size < 100_000:
            found.append(path.read_text(errors="replace").strip())
    return found


def main() -> int:
    libraries = sorted(crates() + client_packages())
    by_text: dict[str, list[str]] = {}
    without = []
    for name, licence, folder in libraries:
        own = texts(folder)
        if not own and not licence:
            print(f"error: {name} has no licence", file=sys.stderr)
            return 1
        for text in own:
            by_text.setdefault(text, []).append(name)
        if not own:
            without.append(f"{name}: {licence}")
    for name, path in SYSTEM.items():
        if path.exists():
            by_text.setdefault(path.read_text().strip(), []).append(name)
    line = "=" * 80
    print("Stack is built with these libraries. Their licences, and what they want said:\n")
    for name, licence, _ in libraries:
        print(f"  {name}: {licence or 'see its text'}")
    for text, names in sorted(by_text.items(), key=lambda entry: entry[1]):
        names = sorted(set(names))
        print(f"\n{line}\n{', '.join(names)}\n{line}\n\n{text}")
    if without:
        print(f"\n{line}\nWithout a text of their own:\n{line}\n")
        print("\n".join(without))
    return 0


if __name__ == "__main__":
    sys.exit(main())
