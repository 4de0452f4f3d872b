# SPDX-License-Identifier: BSD-2-Clause
"""The historical cases: all there, with the rules that they are about, and in step with docs/cases.md."""

import importlib
from pathlib import Path

import pytest

from sim.explain_example import explain_example
from sim.scenarios.examples import examples, story_of

CASES = {name: scenario for name, scenario in examples().items() if scenario.family == "cases"}
BROKEN = [scenario for scenario in CASES.values() if scenario.variant == "broken"]
DOC = Path(__file__).parents[3] / "docs" / "cases.md"

#: Rules that the finding of each case must carry, as a root or as a consequence.
RULES = {
    "cobalt-qube2-ide": {"R17", "R18"},
    "cve-2026-31768-ti-adc161s626": {"R45", "R10"},
    "cve-2026-46236-xbox-remote": {"R10"},
    "freebsd-umass": {"R02", "R03"},
    "linux-arm-usb-pio": {"R17", "R18"},
    "linux-arm64-nic-sync": {"R04"},
    "linux-iio-dma-minalign": {"R12"},
    "linux-scsi-sense": {"R10"},
    "mips-page-migration": {"R17", "R18"},
    "netmap-409": {"R04"},
    "nuttx-litex-sdio": {"R07"},
    "nuttx-stm32h7-sdmmc": {"R04"},
    "powerpc-copy-prefetch": {"R04"},
    "raspberry-pi-575": {"R01"},
    "uboot-dwc3": {"R08"},
    "vmxnet3": {"R05"},
    "zephyr-i2s-sam-ssc": {"R02", "R03"},
    "zephyr-imx-usdhc": {"R09", "R10"},
}
_STYLES = {"wdk": "WDK", "bare": "bare metal"}


def row(scenario):
    """The table's line for a case."""
    expect, title = scenario.expect, story_of(scenario)[0]
    rules = [*sorted(expect.roots), *(f"({rule})" for rule in sorted(expect.consequences))]
    interface = f"Linux, {expect.architecture}" if scenario.style == "linux" else _STYLES[scenario.style]
    link = f"[`{scenario.subject}`](../{scenario.module.replace('.', '/')}.py)"
    return f"| {link} | {title} | {' '.join(rules)} | {interface} |"


#: Consequences that the rebuilt driver shows beyond them.
_FURTHER = {
    "cve-2026-46236-xbox-remote": {"R03"},
    "linux-iio-dma-minalign": {"R10"},
    "linux-scsi-sense": {"R03"},
    "vmxnet3": {"R01"},
}


def test_every_case_is_there_and_about_its_rules():
    found = {scenario.subject: scenario.expect.roots | scenario.expect.consequences for scenario in BROKEN}
    assert found == {name: rules | _FURTHER.get(name, set()) for name, rules in RULES.items()}


def test_the_page_is_in_step_with_the_catalogue():
    lines = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    assert lines == [row(scenario) for scenario in BROKEN]


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda scenario: scenario.subject)
def test_a_case_is_broken_fixed_and_lucky(scenario):
    example = importlib.import_module(scenario.module).EXAMPLE
    assert example.case
    assert example.broken.corrupts and example.broken.severity == "corruption seen"
    assert example.lucky is not None and example.lucky.corrupts is False and example.lucky.roots == example.broken.roots
    assert not example.fixed.roots and example.fixed.corrupts is False


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda scenario: scenario.subject)
def test_explain_tells_story_mechanism_and_fix_and_shows_both_drivers(scenario):
    text = explain_example(scenario, width=160)
    place = [text.index(f"\n{head}\n") for head in ("Mechanism", "Fix", "What comes out")]
    assert place == sorted(place)
    assert "async def broken(" in text and "| async def fixed(" in text
    differing = [line for line in text.splitlines() if line[79:80] in ("|", "<", ">")]
    assert len(differing) >= 2  # the two names, and what is wrong
    assert "What to do:" not in text or scenario.style == "wdk"  # those are the WDK's calls
