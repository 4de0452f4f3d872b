# SPDX-License-Identifier: BSD-2-Clause
"""A write-through D-cache in the whole SoC: which forgotten maintenance it forgives, and which it does not.

The same three programs run on a write-back and on a write-through cache. The reference model follows both to the last byte.
"""

from pathlib import Path

import pytest

from sim.userdriver.check import check_driver
from sim.userdriver.options import prepare_check
from sim.userdriver.run import Ending

LENGTH = 256

DRIVER = """
LENGTH = 256


async def finish(machine, device):
    await device.wait(100_000)
    await device.acknowledge()
    await machine.flush_dma()


async def read(machine, device, buffer, byte_offset, length=LENGTH, *, invalidate=True):
    await machine.clean_invalidate_dcache_by_addr(buffer, length)
    await machine.dsb()
    await device.start_list([(buffer, length)], False, byte_offset)
    await finish(machine, device)
    if invalidate:
        await machine.invalidate_dcache_by_addr(buffer, length)
        await machine.dsb()


async def write(machine, device, buffer, byte_offset, *, clean=True):
    if clean:
        await machine.clean_dcache_by_addr(buffer, LENGTH)
        await machine.dsb()
    await device.start_list([(buffer, LENGTH)], True, byte_offset)
    await finish(machine, device)


async def block_of(machine, device):
    buffer = machine.allocate(LENGTH)
    await read(machine, device, buffer, 0)
    block = await machine.cpu.load(buffer, LENGTH)
    machine.free(buffer)
    return block

"""

#: Memory to device, without the clean before it; what the device got is read back with all that is due.
FORGOTTEN_CLEAN = """
async def main(machine, device):
    block = await block_of(machine, device)
    sent, back = machine.allocate(LENGTH), machine.allocate(LENGTH)
    await machine.cpu.store(sent, bytes(LENGTH))
    await machine.clean_dcache_by_addr(sent, LENGTH)
    await machine.dsb()
    await machine.cpu.store(sent, block)
    await write(machine, device, sent, 4096, clean=False)
    await read(machine, device, back, 4096)
    return await machine.cpu.load(back, LENGTH)
"""

#: Device to memory, with the CPU polling the buffer meanwhile, and without the invalidate after it.
FORGOTTEN_INVALIDATE = """
async def main(machine, device):
    buffer = machine.allocate(LENGTH)
    await machine.cpu.store(buffer, bytes(LENGTH))
    await machine.clean_invalidate_dcache_by_addr(buffer, LENGTH)
    await machine.dsb()
    await machine.cpu.load(buffer, LENGTH)
    await device.start_list([(buffer, LENGTH)], False, 0)
    await finish(machine, device)
    return await machine.cpu.load(buffer, LENGTH)
"""

#: Device to memory into the second half of a line whose first half the CPU stores during the transfer; then the invalidate.
SHARED_LINE = """
async def main(machine, device):
    block = await block_of(machine, device)
    line = machine.allocate(32)
    await machine.cpu.store(line, bytes(32))
    await machine.clean_invalidate_dcache_by_addr(line, 32)
    await machine.dsb()
    await device.start_list([(line + 16, 16)], False, 16)
    await machine.cpu.store(line, block[:16])
    await finish(machine, device)
    await machine.invalidate_dcache_by_addr(line, 32)
    await machine.dsb()
    return await machine.cpu.load(line, 32)
"""


def check(folder: Path, main: str, policy: str, coherency: str = "none"):
    driver, config = folder / "the_driver.py", folder / "soc.toml"
    driver.write_text(DRIVER + main)
    config.write_text(f'coherency = "{coherency}"\n[dcache]\nwrite_policy = "{policy}"\n')
    platform = "bare" if coherency == "none" else "coherent"
    options = prepare_check(str(driver), platforms=[platform], config=str(config), results=folder / "results")
    (result,) = check_driver(options)
    (run,) = result.runs
    assert run.ending == Ending.RETURNED, run.problem
    assert run.checked and run.hardware == [], run.hardware
    return run


@pytest.mark.parametrize(
    ("main", "back", "through"),
    # Of a forgotten clean both the bytes that the device got and those that are read back are counted.
    [(FORGOTTEN_CLEAN, 2 * LENGTH, 0), (FORGOTTEN_INVALIDATE, LENGTH, LENGTH), (SHARED_LINE, 16, 0)],
    ids=["forgotten clean", "forgotten invalidate", "shared line"],
)
@pytest.mark.parametrize("policy", ["back", "through"])
def test_what_a_write_policy_forgives(tmp_path, main, back, through, policy):
    run = check(tmp_path, main, policy)
    assert run.corrupted == (back if policy == "back" else through)
    assert any(finding["root"] for finding in run.findings), "the checker asks for the maintenance on either cache"


@pytest.mark.parametrize("main", [FORGOTTEN_CLEAN, FORGOTTEN_INVALIDATE, SHARED_LINE], ids=["clean", "invalidate", "shared"])
def test_a_coherent_platform_forgives_all_with_either_policy(tmp_path, main):
    assert check(tmp_path, main, "through", "snoop").corrupted == 0
