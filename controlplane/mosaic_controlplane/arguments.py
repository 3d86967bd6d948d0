"""The command line of mosaic-controlplane."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mosaic_framework import __version__

from mosaic_controlplane import authority_verbs


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command line says; ends the process on one that is wrong."""
    parser = argparse.ArgumentParser(
        prog="mosaic-controlplane", description="The control plane of a Mosaic Fleet cluster."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="serve hosts and operators")
    verbs.add_parser("health", help="say whether the replica of this home is alive and ready (exit 0: ready)")
    verbs.add_parser("database", help="run the embedded PostgreSQL in the foreground")
    verbs.add_parser("restored", help="take up a register restored from a backup; run it before the first replica")
    roots = verbs.add_parser("authority", help="the cluster's roots: show them, or change from one to the next")
    roots.add_argument("step", choices=authority_verbs.VERBS, help="ls; or, in this order: add, use, retire")
    roots.add_argument("--force", action="store_true", help="do not wait for those who would have to join again")
    kept = verbs.add_parser("backup", help="write the register into a new folder, while it is used")
    kept.add_argument("folder", type=Path, help="a folder that does not exist yet")
    kept.add_argument("--with-key", action="store_true", help="put the authority's key in it too: guard it then")
    back = verbs.add_parser("restore", help="make a backup the register, and take it up; stop every replica first")
    back.add_argument("folder", type=Path, help="a folder that `backup` made")
    back.add_argument("--replace", action="store_true", help="though there is a cluster in the register")
    back.add_argument("--dry-run", action="store_true", help="check everything, and change nothing")
    token = verbs.add_parser("operator-token", help="print a one-time login token for an operator")
    token.add_argument("--name", required=True, help="the operator's name")
    token.add_argument("--role", default="admin", choices=["admin", "operator", "viewer"])
    token.add_argument("--tenant", default="default")
    token.add_argument("--ttl", type=int, default=600, help="seconds until it expires (default 600)")
    return parser.parse_args(arguments)
