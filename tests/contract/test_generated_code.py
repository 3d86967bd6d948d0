"""The committed code of the wire contract is what its .proto files make."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.checkout import ROOT

GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generated(folder: Path) -> dict[str, str]:
    files = {path for pattern in GENERATED for path in (folder / "mosaic_proto" / "v1").glob(pattern)}
    return {path.name: path.read_text() for path in files}


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    subprocess.run([str(ROOT / "script" / "proto"), str(tmp_path)], check=True, timeout=60)
    fresh, committed = generated(tmp_path), generated(ROOT / "proto")
    assert fresh, "script/proto made nothing"
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert stale == [], "run script/proto, and commit what it changes"
