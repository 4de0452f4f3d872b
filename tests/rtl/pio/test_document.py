# SPDX-License-Identifier: BSD-2-Clause
"""The table's documentation: the committed page is current, header and SystemRDL agree with the table."""

import re
from pathlib import Path

import pytest

from rtl.pio.document import c_header, main, markdown, systemrdl
from rtl.pio.table import IRQ, Field, Register, blocks, find, registers

PAGE = Path(__file__).parents[3] / "docs" / "registers.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text() == markdown(), "run: python -m rtl.pio.document > docs/registers.md"


def test_the_page_has_every_register_and_field():
    text = markdown()
    for register in registers(1):
        name = register.full_name.replace("ch0", "ch<n>")
        section = text.split(f"### `{name}` (")[1].split("\n### ")[0]
        assert section.startswith(f"{register.offset:#05x}")
        for field in register.fields:
            assert f"| `{field.name}` | `{field.access}` |" in section


@pytest.mark.parametrize("channels", [1, 4])
def test_the_header_has_every_register_and_field(channels):
    defines = {}
    for name, value in re.findall(r"^#define (\w+) (0x[0-9a-f]+|\d+)u(?: /\*.*\*/)?$", c_header(channels), re.M):
        assert name not in defines
        defines[name] = int(value, 0)
    expected = {
        "FPT_WINDOW_BASE": 0x1000_0000,
        "FPT_WINDOW_SIZE": 0x1000,
        "FPT_IDENTIFICATION": 0x4650_5431,
        "FPT_SYSTEM_CHANNELS": channels,
    }
    for register in registers(channels):
        name = f"FPT_{register.block}_{register.name}".upper()
        expected[name] = register.offset
        for field in register.fields:
            if field.width < 32:
                expected[f"{name}_{field.name.upper()}_MASK"] = field.mask
                expected[f"{name}_{field.name.upper()}_SHIFT"] = field.low
    assert defines == expected
    assert f"#define FPT_IRQ_DEVICE (1u << {IRQ.DEVICE})" in c_header()


@pytest.mark.parametrize("channels", [1, 4])
def test_systemrdl_places_every_register(channels):
    """(The text was compiled with systemrdl-compiler 1.x; here only its numbers are checked.)"""
    text = systemrdl(channels)
    assert text.count("{") == text.count("}")
    found, names = {}, []
    for name, offset in re.findall(r"^        \} (\w+)_ @ (0x[0-9a-f]+);$|^    \} \w+_ @ 0x[0-9a-f]+;$", text, re.M):
        names.append((name, offset))
    starts = dict(re.findall(r"^    \} (\w+)_ @ (0x[0-9a-f]+);$", text, re.M))
    assert list(starts) == list(blocks(registers(channels)))
    order = iter(starts.items())
    block, start = next(order)
    for name, offset in names:
        if name:
            found[f"{block}.{name}"] = int(start, 16) + int(offset, 16)
        else:
            block, start = next(order, ("", "0x0"))
    assert found == {register.full_name: register.offset for register in registers(channels)}


def test_command_line(capsys):
    for arguments, text in (
        ([], markdown()),
        (["--c-header", "--system-channels", "2"], c_header(2)),
        (["--systemrdl"], systemrdl(1)),
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().out == text
    with pytest.raises(SystemExit) as caught:
        main(["--system-channels", "5"])
    assert caught.value.code == 2 and "--system-channels" in capsys.readouterr().err


def test_the_table_is_consistent():
    for channels in range(1, 5):
        table = registers(channels)
        offsets = [register.offset for register in table]
        assert offsets == sorted(set(offsets)) and all(offset % 4 == 0 and offset < 0x1000 for offset in offsets)
        assert len({register.full_name for register in table}) == len(table)
        for register in table:
            assert register.doc and all(field.doc and field.reset < 1 << field.width for field in register.fields)
            if any(field.access == "port" for field in register.fields):
                assert len(register.fields) == 1, "a port takes the whole register"
    assert find("ch3.residue", registers(4)).offset == 0x5DC
    with pytest.raises(KeyError, match=r"no register is called 'ch3\.residue'"):
        find("ch3.residue")
    with pytest.raises(KeyError, match=r"dma\.level has no field 'up'"):
        find("dma.level").field("up")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Field("x", 0, 1, "wo", ""), "Field x access must be one of .*, not 'wo'"),
        (lambda: Field("x", 30, 3, "rw", ""), r"Field x must lie in bits 0 to 31, not 30\+3"),
        (
            lambda: Register("b", "r", 0, (Field("x", 0, 4, "rw", ""), Field("y", 3, 1, "rw", "")), ""),
            r"Register b\.r field y must not overlap another field",
        ),
    ],
)
def test_bad_tables(make, text):
    with pytest.raises(ValueError, match=text):
        make()
