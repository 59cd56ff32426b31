"""Set the course up from this bundle, without a network: python setup_course.py [FOLDER].

More options go to pip. It uses nothing but Python itself, since nothing is installed yet.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = "from workbook import settings; print(settings.cache_dir())"


def main(arguments: list[str]) -> None:
    """Make the course's folder with its environment, and fill the cache."""
    folders = [text for text in arguments if not text.startswith("-")]
    target = Path(folders[0] if folders else Path.home() / "instruction-tuning-workbook")
    notes = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    require_machine(notes)
    if (target / "my").exists():
        sys.exit(
            f"{target} holds your notebooks in my/: give another folder after setup_course.py."
        )
    print("Checking the files …", flush=True)
    require_whole(notes["files"])
    shutil.copytree(HERE / "course", target, dirs_exist_ok=True)
    python = install(target, [text for text in arguments if text.startswith("-")])
    fill_cache(python)
    (target / ".venv" / ".installed").touch()  # `make` then installs nothing
    command = python.with_name("workbook")
    print(f"Ready. Open the course with `make lab` in {target}, or with {command} lab")


def require_machine(notes: dict) -> None:
    """End with a sentence where the wheels are for another system or another Python."""
    found = (f"{platform.system()} {platform.machine()}", ".".join(map(str, sys.version_info[:2])))
    if found != (notes["system"], notes["python"]):
        sys.exit(
            f"This bundle is for Python {notes['python']} on {notes['system']}, and this is Python "
            f"{found[1]} on {found[0]}: take the right Python, or make a bundle on such a machine."
        )


def require_whole(files: dict[str, str]) -> None:
    """End with a sentence that names the files which were damaged or lost on the way here."""
    bad = [name for name, sha256 in files.items() if hash_of(HERE / name) != sha256]
    if bad:
        names = ", ".join(bad[:5]) + (" …" if len(bad) > 5 else "")
        sys.exit(f"Copy the bundle again: {len(bad)} files are damaged or missing ({names}).")


def hash_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def install(target: Path, options: list[str]) -> Path:
    """Make the environment, install the course from the wheels alone, and return its Python."""
    print("Installing the packages (minutes) …", flush=True)
    folder = target / ".venv"
    venv.create(folder, clear=True, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [str(python), "-m", "pip", "--isolated", "install", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--find-links", str(HERE / "wheels")]
    command += ["-c", str(target / "constraints.txt"), *options, "-e", str(target)]
    # --isolated hides pip's settings; its build environment would still read them.
    bare = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
    if subprocess.call(command, env=bare | {"PIP_CONFIG_FILE": os.devnull}):
        sys.exit("The packages could not be installed: the lines above say why.")
    return python


def fill_cache(python: Path) -> None:
    """Copy model and data into the cache, unless they are there."""
    found = subprocess.run(
        [str(python), "-c", CACHE], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    cache = Path(found.stdout.strip())
    for folder in sorted((HERE / "cache").iterdir()):
        if not (cache / folder.name).exists():
            draft = cache / f"{folder.name}.part"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(folder, draft)
            draft.rename(cache / folder.name)


if __name__ == "__main__":
    main(sys.argv[1:])
