# SPDX-License-Identifier: BSD-2-Clause
"""``dcache.parity`` on the whole hardware: what a driver sees of an upset, and how it gets on."""

from pathlib import Path

from rtl.probe import Kind
from sim.record import Run
from sim.userdriver.check import check_driver
from sim.userdriver.options import prepare_check

#: Upsets of a byte that is loaded, of one that is written back, and of a tag; each answer of the hardware is printed.
DRIVER = """
from driver.bus import BusError
from driver.errors import MaintenanceError


async def main(machine, device):
    dcache, line = machine.regs.dcache, machine.allocate(32)

    async def upset(address, **what):
        await dcache.inject_addr.write(address)
        await dcache.inject_cmd.write(**what)
        while (await dcache.inject_cmd.read()).busy:
            pass

    async def told(step):
        status = await dcache.error_status.read()
        irq = bool((await machine.regs.sys.irq_raw.read()).level & 1 << 4)
        where = (await dcache.error_addr.read()) - line
        print(step, status.parity_tag, status.parity_data, irq, where if irq else "-")
        await dcache.error_status.write(parity_tag=1, parity_data=1)

    async def load(address):
        try:
            return (await machine.cpu.load(address, 8)).hex()
        except BusError as error:
            return error.response

    print("built", (await machine.regs.sys.dcache_geometry.read()).parity)
    await machine.cpu.store(line, bytes(range(32)))
    await upset(line + 9, flip_data=1)
    print(await load(line), await load(line + 8))
    await told("loaded")
    try:
        await machine.clean_dcache_by_addr(line, 32)
        await machine.dsb()
    except MaintenanceError:
        print("maintenance error")
    await told("cleaned")
    await machine.cpu.store(line + 9, b"!")
    print(await load(line + 8))
    await told("repaired")
    await upset(line, flip_tag=1)
    print(await load(line))
    await told("tag")
    await machine.invalidate_dcache()
    await machine.dsb()
    print(await load(line + 8))
    await told("invalidated")
"""

SAID = """
built 1
0001020304050607 SLVERR
loaded 0 1 True 0
maintenance error
cleaned 0 1 True 0
08210a0b0c0d0e0f
repaired 0 0 False -
SLVERR
tag 1 0 True 0
08090a0b0c0d0e0f
invalidated 0 0 False -
"""


def test_a_driver_sees_upsets_and_gets_on(tmp_path: Path):
    driver, config = tmp_path / "driver.py", tmp_path / "soc.toml"
    driver.write_text(DRIVER)
    config.write_text('coherency = "none"\n[dcache]\nparity = true\n')
    options = prepare_check(str(driver), config=str(config), results=tmp_path / "results")
    ((run,),) = (platform.runs for platform in check_driver(options))
    assert not (run.problem or run.hardware or run.error), run
    assert run.output.strip() == SAID.strip()
    upsets = [event for event in Run.load(run.record).events if event.kind == Kind.UPSET]
    assert [event.aux for event in upsets] == [0, 1]
