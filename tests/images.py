"""Stand-ins for apptainer and pyxis that tests put in PATH: real mounts in a namespace of their own, no image format.

Neither is in a released Debian, so these are written from their documentation (and apptainer 1.4.5, tried by hand, did
the same): what `exec` takes, how --mount is read (a line of csv), that the environment is the host's but for PATH and
LD_LIBRARY_PATH, that what the image sets wins, that APPTAINERENV_X wins over that and is shell text unless
APPTAINER_NO_EVAL is set, and that --cleanenv drops the host's.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

APPTAINER = '''\
#!{python} -I
import csv, json, os, subprocess, sys

def field(text):
    return dict(part.partition("=")[::2] for part in next(csv.reader([text], strict=True)))

argv, mounts, options, pwd = sys.argv[1:], [], [], "/"
assert argv.pop(0) == "exec", argv
while argv[0].startswith("-"):
    option = argv.pop(0)
    if option == "--mount":
        mounts.append(field(argv.pop(0)))
    elif option == "--pwd":
        pwd = argv.pop(0)
    else:
        options.append(option)
image, words = argv[0], argv[1:]
prefix = os.path.basename(sys.argv[0]).upper()
given = {{name: value for name, value in os.environ.items() if not name.startswith(prefix)}}
forced = {{name.removeprefix(prefix + "ENV_"): value for name, value in os.environ.items()
          if name.startswith(prefix + "ENV_")}}
if prefix + "_NO_EVAL" not in os.environ:
    forced = {{name: subprocess.run(["sh", "-c", 'eval "echo \\\\"$1\\\\""', "sh", value], text=True,
               capture_output=True).stdout for name, value in forced.items()}}
env = {{}} if "--cleanenv" in options else given
env = {{**env, **{image_env!r}, **forced}}
with open({seen!r}, "a") as file:
    told = {{"options": options, "mounts": mounts, "pwd": pwd, "image": image, "words": words}}
    file.write(json.dumps(told) + "\\n")
script = """
set -e
root=$1; pwd=$2; shift 2
mount -t tmpfs tmpfs "$root"
for path in /usr /bin /sbin /lib /lib64 /etc /dev /proc; do
  [ -e "$path" ] || continue
  if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$root$path"; continue; fi
  mkdir -p "$root$path"; mount --rbind "$path" "$root$path"
done
while [ "$1" != -- ]; do
  mkdir -p "$root$2"; mount --rbind "$1" "$root$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
exec /usr/sbin/chroot "$root" /bin/sh -c 'cd -- "$0" && exec "$@"' "$pwd" "$@"
"""
flat = [word for each in mounts for word in (each["source"], each["destination"], "ro" if "ro" in each else "rw")]
os.makedirs({root!r}, exist_ok=True)
line = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", {root!r}, pwd, *flat, "--", *words]
os.execve({unshare!r}, line, env)
'''


def possible() -> bool:
    """Whether this machine lets us have a mount namespace."""
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(trial, capture_output=True).returncode == 0


class Runtime:
    """A directory with an apptainer (or one of another name) in it, and what it was called with."""

    def __init__(self, home: Path, name: str = "apptainer", **image_env: str) -> None:
        self.bin, self._seen = home / "bin", home / "seen"
        self.bin.mkdir(parents=True)
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/image", **image_env}
        text = APPTAINER.format(python=sys.executable, image_env=env, seen=str(self._seen), root=str(home / "inside"),
                                unshare=shutil.which("unshare"))  # fmt: skip
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)
        self.image = home / "it's an image; $HOME.sif"
        self.image.write_text("")

    @property
    def path(self) -> str:
        """A PATH with it."""
        return f"{self.bin}:{os.environ['PATH']}"

    def calls(self) -> list[dict]:
        """What it was called with, oldest first."""
        return [json.loads(line) for line in self._seen.read_text().splitlines()] if self._seen.exists() else []


# Slurm's srun with the plugin pyxis: an image's variables win but for those that --container-env names.
PYXIS = '''\
#!{python} -I
import os, sys

argv, mounts, given, flags = sys.argv[1:], [], {{}}, []
while argv[0].startswith("-"):
    name, _, value = argv.pop(0).partition("=")
    if name.startswith("--container-"):
        given[name] = value
    else:
        flags.append(f"{{name}}={{value}}")
for mount in given["--container-mounts"].split(","):
    host, inside, *mode = mount.split(":")
    mounts += ["--mount", ",".join(["type=bind", f"source={{host}}", f"destination={{inside}}", *mode])]
for name in given["--container-env"].split(","):
    if name in os.environ:
        os.environ["APPTAINERENV_" + name] = os.environ[name]
os.environ.update(APPTAINER_NO_EVAL="1", SRUN=" ".join(flags))
words = ["exec", "--pwd", given["--container-workdir"], *mounts, given["--container-image"], *argv]
os.execv({apptainer!r}, ["apptainer", *words])
'''


def pyxis(runtime: Runtime) -> None:
    """Put an srun with pyxis beside the apptainer that it uses."""
    path = runtime.bin / "srun"
    path.write_text(PYXIS.format(python=sys.executable, apptainer=str(runtime.bin / "apptainer")))
    path.chmod(0o755)
