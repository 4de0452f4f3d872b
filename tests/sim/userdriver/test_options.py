# SPDX-License-Identifier: BSD-2-Clause
"""What ``check DRIVER`` makes of good and bad options, without running anything."""

import pytest

from rtl.config import ConfigError
from sim.commands.new_driver import template
from sim.options import MAX_PAYLOAD, OptionError
from sim.userdriver.options import prepare_check


@pytest.fixture
def driver(tmp_path):
    """Writes a template and gives its path."""

    def write(style="wdk"):
        path = tmp_path / f"{style}.py"
        path.write_text(template(style))
        return str(path)

    return write


@pytest.mark.parametrize("style, platform", [("wdk", "wdk"), ("linux", "arm64"), ("bare", "bare")])
def test_each_style_has_its_platform(driver, style, platform):
    (choice,) = prepare_check(driver(style)).platforms
    assert (choice.name, choice.architecture, choice.coherent, choice.speculates) == (platform, platform, False, True)


def test_platforms_by_commas_and_repetition(driver):
    options = prepare_check(driver("linux"), platforms=["arm,mips", "coherent", "arm"])
    assert [choice.name for choice in options.platforms] == ["arm", "mips", "coherent"]
    assert [choice.architecture for choice in options.platforms] == ["arm", "mips", "arm64"]
    assert [choice.coherent for choice in options.platforms] == [False, False, True]
    assert not options.platforms[1].speculates


def test_a_configuration_that_states_its_coherency_chooses_the_platform(driver, tmp_path):
    config = tmp_path / "soc.toml"
    config.write_text('coherency = "snoop"\n')
    (choice,) = prepare_check(driver(), config=str(config)).platforms
    assert choice.name == "coherent" and choice.coherent
    with pytest.raises(OptionError, match=r"platform must fit the configuration's coherency .*'snoop'\), not 'arm64'"):
        prepare_check(driver(), config=str(config), platforms=["arm64"])
    config.write_text("[dcache]\nsets = 32\n")
    (choice,) = prepare_check(driver(), config=str(config), platforms=["coherent"]).platforms
    assert choice.coherent and choice.config.dcache.sets == 32
    config.write_text("[dcache]\nsets = 33\n")
    with pytest.raises(ConfigError, match=r"dcache\.sets must be"):
        prepare_check(driver(), config=str(config))


def test_a_large_payload_grows_the_hardware(driver, tmp_path):
    payload = tmp_path / "payload"
    payload.write_bytes(bytes(MAX_PAYLOAD))
    (choice,) = prepare_check(driver(), payload=str(payload)).platforms
    assert choice.config.device.buffer_bytes >= MAX_PAYLOAD


def test_the_command_that_repeats_a_run_has_all_it_needs(driver, tmp_path):
    payload = tmp_path / "a payload"
    payload.write_bytes(b"x")
    path = driver()
    options = prepare_check(path, payload=str(payload), simulator="icarus", seed="5", explore="3", limit=5000, portable=True)
    assert list(options.seeds) == [5, 6, 7]
    assert options.reproduce(6, options.platforms[0]) == (
        f"python -m sim check {path} --seed 6 --platform wdk --payload '{payload}' --sim icarus --limit 5000 --portable"
    )


def test_waves_are_for_one_run(driver):
    with pytest.raises(OptionError, match="waves must be asked for with one run"):
        prepare_check(driver(), waves=True, explore=2)
    with pytest.raises(OptionError, match="waves must be asked for with one run"):
        prepare_check(driver(), waves=True, platforms=["arm,coherent"])
