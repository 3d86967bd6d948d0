"""Proxy variables: mosaic's own calls go around them, what it starts may not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mosaic_cli.doctor.finding import NOTE, WELL, Finding

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")


def proxy_names(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the proxy variables that are set."""
    return sorted(name for name, value in environment.items() if name.lower() in _PROXIES and value)


def judge(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Say what proxy variables mean here. Their values may hold passwords and are not shown."""
    names = proxy_names(environment)
    if not names:
        yield Finding("proxies", WELL, "none set")
        return
    text = f"{', '.join(names)} set: mosaic's own calls go around it; agents and `mosaic update` go through it"
    yield Finding("proxies", NOTE, text, f"where that is not wanted: unset {' '.join(names)}")
