"""Makes a stand-in runtime: a program with a version, a command that updates it, and a composer.

`claude update` makes the version in the folder's file `update` the program's own, or does what else that file says:
`fail`, `hang`, `vanish`, `slow VERSION` (until the file `go` is there). Each update is noted in the file `updates`,
each launch with its version in `launches`.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """#!/bin/bash
here={folder}
version=$(cat "$here/version")
case "$1" in
--version) if [ -s "$here/version" ]; then echo "$version (stand-in)"; else exit 1; fi ;;
update)
  echo "checking for updates"
  echo "$$" >> "$here/updates"
  read -r what < "$here/update"
  case "$what" in
  fail) echo "the registry says no"; exit 7 ;;
  hang) echo $$ > "$here/hangs"; exec sleep 1000 ;;
  slow*)
    echo $$ > "$here/hangs"
    while [ ! -e "$here/go" ]; do sleep 0.05; done
    echo "${{what#slow }}" > "$here/version"
    touch "$here/claude" ;;
  vanish) : > "$here/version" ;;
  "$version") echo "$what is the newest" ;;
  *)
    echo "$what" > "$here/version"
    touch "$here/claude"  # a real one is replaced
    echo "updated to $what" ;;
  esac ;;
*)
  echo "$version" >> "$here/launches"
  if [ "$version" = "9.9.9" ]; then echo "broken release"; exit 3; fi
  exec {python} {program} "$here/transcript.$$" ;;
esac
"""


class Runtime:
    """A stand-in for claude in a folder that stands in front of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "version").write_text("1.0.0\n", encoding="utf-8")
        self.next("2.0.0")
        program = Path(__file__).with_name("clearing.py")
        text = PROGRAM.format(folder=folder, python=sys.executable, program=program)
        (folder / "claude").write_text(text, encoding="utf-8")
        (folder / "claude").chmod(0o755)

    def next(self, what: str) -> None:
        """Say what the next update does."""
        (self.folder / "update").write_text(f"{what}\n", encoding="utf-8")

    def lines(self, name: str) -> list[str]:
        """The lines of a file of the folder; none when it is not there."""
        file = self.folder / name
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
