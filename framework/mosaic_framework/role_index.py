"""The index of the shipped role library, LIBRARY.md: generated from the contracts' front matter, never by hand.

Run `python -m mosaic_framework.role_index` to write it, with `--check` to only compare (exit 1: it is out of date).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.contracts import Contract
from mosaic_framework.roles import KIND, aliases, list_roles

INDEX = "LIBRARY.md"
# The order a reader expects; a domain that is not here comes after these.
DOMAINS = (
    "engineering",
    "executive",
    "product",
    "marketing",
    "sales",
    "operations",
    "research",
    "assistant",
    "customer",
    "creative",
    "general",
)


def index_text(contracts: Iterable[Contract], also: Mapping[str, str]) -> str:
    """Return the index of these contracts; `also`: alias → class."""
    by_domain: dict[str, list[Contract]] = {}
    for contract in sorted(contracts, key=lambda one: one.class_name):
        by_domain.setdefault(contract.domain, []).append(contract)
    ordered = [*(one for one in DOMAINS if one in by_domain), *sorted(set(by_domain) - set(DOMAINS))]
    lines = [
        "# The role library",
        "",
        "Generated from the front matter of the contracts in this folder by `python -m mosaic_framework.role_index`.",
        "Change a contract and generate it again; what is written here by hand is lost.",
    ]
    for domain in ordered:
        lines += [
            "",
            f"## {domain.replace('-', ' ').capitalize()}",
            "",
            "| class | what it does | persistent |",
        ]
        lines += ["|---|---|---|"]
        for one in by_domain[domain]:
            summary = one.summary.replace("|", "\\|")
            lines.append(
                f"| [`{one.class_name}`]({one.class_name}.md) | {summary} | {'yes' if one.persistent else 'no'} |"
            )
    lines += ["", "## Also known as", "", "| alias | class |", "|---|---|"]
    lines += [f"| `{alias}` | `{target}` |" for alias, target in sorted(also.items())]
    return "\n".join(lines) + "\n"


def shipped_index() -> str:
    """Return the index of the shipped library. Raises RuntimeError for a broken contract: it is our own data."""
    catalog = Catalog(shipped_data())
    roles = list_roles(catalog)
    broken = [role.problem for role in roles if role.contract is None]
    if broken:
        raise RuntimeError("; ".join(broken))
    return index_text([role.contract for role in roles if role.contract is not None], aliases(catalog))


def main(arguments: list[str]) -> int:
    """Write or check the index, and return the exit status."""
    path = Catalog(shipped_data()).folder(KIND) / INDEX
    text = shipped_index()
    if arguments == ["--check"]:
        fresh = path.is_file() and path.read_text(encoding="utf-8") == text
        if not fresh:
            sys.stderr.write(f"{INDEX} is out of date: python -m mosaic_framework.role_index\n")
        return 0 if fresh else 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
