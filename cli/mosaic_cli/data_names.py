"""Completion of names that lie in data files: roles, profiles, presets, runtimes. No call to a control plane."""

from __future__ import annotations

from collections.abc import Callable

from mosaic_framework.errors import FleetError


def _complete(suffix: str, kind: str) -> Callable[[str], list[str]]:
    def names(incomplete: str) -> list[str]:
        from mosaic_framework.catalog import Catalog

        try:
            return [stem for stem in Catalog.open().files(kind, suffix) if stem.startswith(incomplete)]
        except FleetError:
            return []

    return names


profiles = _complete(".yaml", "profiles")
presets = _complete(".yaml", "presets")
runtimes = _complete(".yaml", "runtimes")


def classes(incomplete: str) -> list[str]:
    """Complete a role's class or alias."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.roles import aliases, class_names

    try:
        catalog = Catalog.open()
        known = [*class_names(catalog), *aliases(catalog)]
    except FleetError:
        return []
    return sorted(name for name in known if name.startswith(incomplete))
