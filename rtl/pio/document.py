# SPDX-License-Identifier: BSD-2-Clause
"""The register table as documentation: a Markdown page, a C header, SystemRDL.

::

    python -m rtl.pio.document > docs/registers.md
    python -m rtl.pio.document --c-header [--system-channels N] > flushpoint.h
    python -m rtl.pio.document --systemrdl [--system-channels N] > flushpoint.rdl

The page describes all registers once; ``ch<n>`` stands for each system channel. Header and SystemRDL are for one SoC.
"""

import argparse
import sys
from collections.abc import Iterator

from .table import IDENTIFICATION, IRQ, SYSTEM_CHANNEL_STRIDE, WINDOW_BASE, WINDOW_SIZE, Register, blocks, registers

__all__ = ["c_header", "main", "markdown", "systemrdl"]

_BLOCKS = {
    "sys": "What this SoC is, interrupts, the cycle counter",
    "dcache": "D-cache",
    "icache": "I-cache",
    "maint": "Maintenance unit",
    "dma": "DMA engine: flush, errors, counters",
    "ch": "System (subordinate) channels",
    "bm": "Bus master",
    "mem": "Memory controller: fault injection, counters",
    "dev": "Device",
}

_ACCESS = {
    "ro": "read-only: the hardware's value; a write is ignored",
    "rw": "storage; reads give what was written",
    "rwh": "storage that the hardware changes too; a write in the same cycle wins",
    "w1c": "flag: set by the hardware, cleared by writing 1; a set in the same cycle wins",
    "w": "command: acts once per write, reads as 0",
    "count": "counter: 0 after reset, the hardware moves it on by one; a write is ignored",
    "port": "reads and writes reach the block itself and have side effects",
}

_INTERRUPTS = (
    ("MAINT", "`maint.status.done`"),
    ("FLUSH", "`dma.flush_status.done`"),
    ("BUS_MASTER", "`bm.status.done` or `.error`"),
    ("DEVICE", "`dev.status.done` or `.error`"),
    ("ERROR", "any flag of `dcache.error_status`, `icache.error_status` or `dma.error_status`"),
    ("SYSTEM_CHANNEL", "`ch<n>.status.tc` or `.error`, at bit 8 + n"),
)

_INTRODUCTION = f"""\
# Registers

Made from `rtl/pio/table.py` by `python -m rtl.pio.document`; do not edit. The same table makes the hardware
(`rtl/pio/bank.py`) and the driver's accessors (`driver/registers.py`).

The window is {WINDOW_SIZE:#x} bytes at {WINDOW_BASE:#010x} and is never cached. Every register is 32 bits wide,
little-endian, and takes aligned 32-bit accesses only. An unaligned or partial access, or an offset without a register,
answers SLVERR and changes nothing.
Reserved bits read as 0 and ignore writes. An access is performed one cycle after it was accepted, and answered in the
cycle after that; accesses are performed one at a time in the order in which they came.

| access | meaning |
|---|---|
""" + "".join(f"| `{name}` | {text} |\n" for name, text in _ACCESS.items())


def _bits(low: int, width: int) -> str:
    return str(low) if width == 1 else f"{low + width - 1}:{low}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _register_section(register: Register) -> Iterator[str]:
    name, offset = register.full_name, f"{register.offset:#05x}"
    if register.block == "ch0":
        name, offset = f"ch<n>.{register.name}", f"{register.offset:#05x} + n * {SYSTEM_CHANNEL_STRIDE:#x}"
    yield f"### `{name}` ({offset})\n\n{register.doc}\n\n"
    yield "| bits | field | access | reset | meaning |\n|---|---|---|---|---|\n"
    for field in sorted(register.fields, key=lambda field: field.low):
        reset = f"{field.reset:#x}" if field.access == "rw" else ("0" if field.access == "w1c" else "")
        yield (f"| {_bits(field.low, field.width)} | `{field.name}` | `{field.access}` | {reset} | {_cell(field.doc)} |\n")
    yield "\n"


def markdown() -> str:
    """The page ``docs/registers.md``."""
    table = registers(1)
    parts = [_INTRODUCTION, "\n| offset | register | |\n|---|---|---|\n"]
    for register in table:
        name = register.full_name if register.block != "ch0" else f"ch<n>.{register.name}"
        parts.append(f"| {register.offset:#05x} | `{name}` | {_cell(register.doc)} |\n")
    parts.append("\n## Interrupts\n\nThe `irq` output is `sys.irq_raw` gated by `sys.irq_enable`; all bits are levels.\n\n")
    parts.append("| bit | name | high while |\n|---|---|---|\n")
    parts += [f"| {getattr(IRQ, name)} | {name} | {text} |\n" for name, text in _INTERRUPTS]
    parts.append("\n")
    for block in blocks(table):
        title = _BLOCKS["ch" if block == "ch0" else block]
        parts.append(f"## {'`ch<n>`' if block == 'ch0' else f'`{block}`'}: {title}\n\n")
        for register in table:
            if register.block == block:
                parts += _register_section(register)
    return "".join(parts).rstrip("\n") + "\n"


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


def c_header(system_channels: int = 1) -> str:
    """A C header: an offset per register, mask and shift per field, interrupt bits."""
    lines = [
        "/* SPDX-License-Identifier: BSD-2-Clause */",
        "/* Made from rtl/pio/table.py by python -m rtl.pio.document --c-header; do not edit. */",
        "#ifndef FLUSHPOINT_REGISTERS_H",
        "#define FLUSHPOINT_REGISTERS_H",
        "",
        "/* Offsets are bytes from the window's base; accesses are aligned and 32 bits wide. */",
        f"#define FPT_WINDOW_BASE 0x{WINDOW_BASE:08x}u",
        f"#define FPT_WINDOW_SIZE 0x{WINDOW_SIZE:x}u",
        f"#define FPT_IDENTIFICATION 0x{IDENTIFICATION:08x}u",
        f"#define FPT_SYSTEM_CHANNELS {system_channels}u",
        "",
    ]
    for name, _ in _INTERRUPTS[:-1]:
        lines.append(f"#define FPT_IRQ_{name} (1u << {getattr(IRQ, name)})")
    lines.append(f"#define FPT_IRQ_SYSTEM_CHANNEL(n) (1u << ({IRQ.SYSTEM_CHANNEL} + (n)))")
    for register in registers(system_channels):
        name = f"FPT_{register.block}_{register.name}".upper()
        lines += ["", f"/* {_comment(register.doc)} */", f"#define {name} 0x{register.offset:03x}u"]
        for field in register.fields:
            if len(register.fields) == 1 and field.width == 32:
                continue
            full = f"{name}_{field.name.upper()}"
            lines.append(f"#define {full}_MASK 0x{field.mask:08x}u /* {field.access}: {_comment(field.doc)} */")
            lines.append(f"#define {full}_SHIFT {field.low}u")
    return "\n".join([*lines, "", "#endif", ""])


#: SystemRDL properties of each access kind. A port is external storage; a command reads as 0.
_RDL = {
    "ro": "sw = r; hw = w;",
    "rw": "sw = rw; hw = r;",
    "rwh": "sw = rw; hw = rw; we;",
    "w1c": "sw = rw; onwrite = woclr; hw = rw; hwset;",
    "w": "sw = w; hw = r; swmod;",
    "count": "sw = r; hw = na; counter;",
    "port": "sw = rw; hw = rw;",
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def systemrdl(system_channels: int = 1) -> str:
    """SystemRDL 2.0 text of the whole window, for PeakRDL and its kin."""
    table = registers(system_channels)
    lines = [
        "// SPDX-License-Identifier: BSD-2-Clause",
        "// Made from rtl/pio/table.py by python -m rtl.pio.document --systemrdl; do not edit.",
        "addrmap flushpoint {",
        "    default regwidth = 32;",
        "    default accesswidth = 32;",
        "    littleendian;",
        "    lsb0;",
    ]
    for block in blocks(table):
        mine = [register for register in table if register.block == block]
        start = mine[0].offset
        lines += ["", "    regfile {"]
        for register in mine:
            external = any(field.access == "port" for field in register.fields)
            lines.append(f"        {'external ' if external else ''}reg {{")
            lines.append(f"            desc = {_quoted(register.doc)};")
            for field in register.fields:
                reset = f" = 0x{field.reset:x}" if field.access in ("rw", "w1c", "w", "count") else ""
                place = f"[{field.low + field.width - 1}:{field.low}]{reset}"
                properties = f"{_RDL[field.access]} desc = {_quoted(field.doc)};"
                # A trailing underscore keeps field names clear of the language's keywords.
                lines.append(f"            field {{ {properties} }} {field.name}_{place};")
            lines.append(f"        }} {register.name}_ @ 0x{register.offset - start:x};")
        lines.append(f"    }} {block}_ @ 0x{start:x};")
    return "\n".join([*lines, "};", ""])


def main(arguments: list[str] | None = None) -> int:
    """The command line; prints to standard output."""
    parser = argparse.ArgumentParser(prog="python -m rtl.pio.document", description="Prints the register table.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--c-header", action="store_true", help="a C header instead of the Markdown page")
    kind.add_argument("--systemrdl", action="store_true", help="SystemRDL instead of the Markdown page")
    parser.add_argument("--system-channels", type=int, default=1, choices=range(1, 5), metavar="N", help="1 to 4 (default 1)")
    options = parser.parse_args(arguments)
    if options.c_header:
        text = c_header(options.system_channels)
    elif options.systemrdl:
        text = systemrdl(options.system_channels)
    else:
        text = markdown()
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
