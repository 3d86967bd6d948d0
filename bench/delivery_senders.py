"""The fourth table of bench/delivery: two agents on two hosts, each from its own pane, send to one pane."""

from __future__ import annotations

import time

from bench.send import durable_register
from tests.support.mesh import running_mesh
from tests.support.two_senders import faults, send_all, two_hosts_and_a_target


async def two_senders(each: int) -> bool:
    """Print the table; say whether each one's order was kept and nothing was mixed, lost or doubled."""
    with durable_register() as (folder, url):
        log = folder / "target.jsonl"
        async with running_mesh(url) as mesh:  # under the limits that everybody has
            await two_hosts_and_a_target(mesh, log)
            began = time.perf_counter()
            sent = await send_all(mesh, each)
            took = time.perf_counter() - began
            found = faults(log, sent)
    messages = sum(map(len, sent.ids.values()))
    print(f"{'two senders, one pane':<26}{'messages':>9}{'seconds':>9}{'a second':>10}{'faults':>8}")
    print(f"{'':<26}{messages:>9}{took:>9.1f}{messages / took:>10.1f}{len(found):>8}")
    for code, times in sorted(sent.waits.items()):
        print(f"calls that waited for a limit ({code}): {times}")
    for fault in found:
        print(fault)
    return not found
