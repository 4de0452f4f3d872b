# SPDX-License-Identifier: BSD-2-Clause
"""``dcache.partial_lines`` on the whole hardware: each policy saves somebody's bytes and loses somebody else's."""

from pathlib import Path

import pytest

from sim.options import prepare
from sim.runner import run
from sim.userdriver.check import check_driver
from sim.userdriver.options import prepare_check

#: The CPU's bytes are dirty in the line when the driver invalidates the buffer that begins, and ends, inside a line.
DRIVER = """
async def main(machine, device):
    line = machine.allocate(64)
    buffer = line + 16
    await machine.cpu.store(line, b"neighbour before")
    await machine.cpu.store(line + 48, b"neighbour behind")
    await machine.invalidate_dcache_by_addr(buffer, 32)
    await machine.dsb()
    await device.start_list([(buffer, 32)], False, 0)
    await device.wait(100_000)
    await device.acknowledge()
    await machine.flush_dma()
    await machine.invalidate_dcache_by_addr(buffer, 32)
    await machine.dsb()
    found = await machine.cpu.load(line, 64)
    print(found[:16] + found[48:], (await machine.regs.sys.features.read()).partial_clean)
    return found[16:48]
"""


def config_file(folder: Path, policy: str) -> str:
    path = folder / "soc.toml"
    path.write_text(f'coherency = "none"\n[dcache]\npartial_lines = "{policy}"\n')
    return str(path)


@pytest.mark.parametrize("policy, survives", [("drop", False), ("clean", True)])
def test_an_invalidate_before_the_transfer(tmp_path, policy, survives):
    """The neighbour's bytes survive where edges are cleaned; the device's come later, and are right under both policies."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    options = prepare_check(str(driver), config=config_file(tmp_path, policy), results=tmp_path / "results")
    ((result,),) = (platform.runs for platform in check_driver(options))
    assert not (result.problem or result.hardware or result.error), result
    assert result.checked == 32 and result.corrupted == 0
    assert (str(b"neighbour beforeneighbour behind") in result.output) == survives
    assert result.output.split()[-1] == str(int(survives)), "what sys.features says"
    assert ("R07" in {finding["rule"] for finding in result.findings}) == (not survives)


@pytest.mark.parametrize("policy, lost", [("drop", range(16)), ("clean", range(16, 32))])
def test_an_invalidate_after_the_transfer(tmp_path, policy, lost):
    """The CPU stores its part of the line during the DMA: dropped, that is lost; cleaned, the device's bytes are overwritten."""
    names = [f"partial-line/{mode}/all-flushes/non-coherent/invalidated-after" for mode in ("system", "bus-master")]
    summary = run(prepare(names=names, config=config_file(tmp_path, policy), quick=True, results=tmp_path / "results"))
    for result in summary.results:
        assert result.verdict == "ok", result.reasons
        assert (result.size, result.corrupted, result.first_offset) == (32, 16, lost[0])
        assert result.roots == ["R10"], "whatever the policy, the buffer must not share a line"
