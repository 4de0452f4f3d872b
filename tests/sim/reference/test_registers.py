# SPDX-License-Identifier: BSD-2-Clause
"""Uncached accesses: one effect each, and an answer that fits it."""

import pytest

from rtl.config import CSR_BASE
from rtl.probe import Kind

from .machine import MEM, SMALL, Machine, noticed


def accesses(config=SMALL) -> Machine:
    m = Machine(config)
    m.csr_write("dma.flush_timeout", 77)
    m.csr_read("dma.flush_timeout", 77)
    m.csr_read("dma.flush_status", 4)  # hardware's own: not predicted
    m.uncached_store(MEM + 0x105, b"around the cache")
    m.uncached_load(MEM + 0x105, 16)
    return m


@pytest.mark.parametrize("width", [32, 64, 128])
def test_legal_accesses(width):
    assert accesses(SMALL.replace(data_width=width)).judge() == []


@pytest.mark.parametrize(
    "kind, fields, text",
    [
        (Kind.CSR_WRITE, {"data": 78}, "register dma.flush_timeout: written with other values than the store's"),
        (Kind.CSR_WRITE, {"addr": 0x404}, "register dma.flush_status: written with other values than the store's"),
        (Kind.CSR_WRITE, {"addr": 0xFFC}, "register 0xffc: written although there is none"),
        (Kind.CSR_WRITE, {"tag": 3}, "register dma.flush_timeout: written with other values"),
        (Kind.CSR_READ, {"data": 78}, "register dma.flush_timeout: read data: expected 0x0000004d, got 0x0000004e"),
        (Kind.CSR_READ, {"addr": 0xFFC}, "register 0xffc: read although there is none"),
        (Kind.UNCACHED_LOAD, {"data": 0}, "data is not what the register gave"),
        (Kind.UNCACHED_LOAD, {"flags": 1}, "answered an error although the register exists"),
        (Kind.UNCACHED_STORE_DONE, {"flags": 1}, "answered an error although the register exists"),
        (Kind.UNCACHED_STORE_DONE, {"addr": MEM}, "uncached store at 0x80000000 answered out of order"),
    ],
)
def test_register_accesses(kind, fields, text):
    m = accesses()
    m.edit(kind, 0, **fields)
    noticed(m, text)


@pytest.mark.parametrize(
    "kind, fields, text",
    [
        (Kind.MEM_WRITE, {"data": 0}, "D_UNCACHED write data: expected"),
        (Kind.MEM_WRITE, {"addr": MEM}, "an uncached write of another beat than the store's: expected 0x80000110"),
        (Kind.UNCACHED_LOAD, {"data": 0}, "uncached load at 0x80000110: data"),
        (Kind.UNCACHED_LOAD, {"addr": MEM + 8}, "answered with another beat"),
        (Kind.UNCACHED_LOAD, {"flags": 1}, "uncached load at 0x80000110: error: expected False, got True"),
        (Kind.UNCACHED_STORE_DONE, {"flags": 1}, "uncached store at 0x80000110: error: expected False, got True"),
    ],
)
def test_memory_accesses(kind, fields, text):
    m = accesses()
    m.edit(kind, -1, **fields)
    noticed(m, text)


@pytest.mark.parametrize(
    "kind, number, text",
    [
        (Kind.CSR_WRITE, 0, "answered okay although no register was written"),
        (Kind.CSR_READ, 0, "answered although no register was read"),
        (Kind.MEM_WRITE, 0, "answered although memory was not written"),
        (Kind.MEM_READ, -1, "answered although memory was not read"),
        (Kind.UNCACHED_STORE, 0, "written although no uncached store was issued"),
        (Kind.UNCACHED_STORE, -1, "an uncached write that no store had issued"),
        (Kind.UNCACHED_STORE_DONE, -1, "of cycle 14 was never answered"),
        (Kind.UNCACHED_LOAD, -1, "1 uncached reads were performed but never answered"),
    ],
)
def test_missing_records(kind, number, text):
    m = accesses()
    m.delete(kind, number)
    noticed(m, text)


def test_doubled_answer():
    m = accesses()
    m.repeat(Kind.UNCACHED_STORE_DONE, -1)
    noticed(m, "answered although none was issued")


def test_outside_the_map_answers_an_error():
    m = Machine()
    m.emit(Kind.UNCACHED_LOAD, 0x4000_0000, aux=0xFF, flags=1)
    m.emit(Kind.UNCACHED_STORE, 0x4000_0000, aux=0xFF)
    m.emit(Kind.UNCACHED_STORE_DONE, 0x4000_0000, flags=1)
    assert m.judge() == []
    m.edit(Kind.UNCACHED_STORE_DONE, 0, flags=0)
    noticed(m, "uncached store at 0x40000000 outside the map answered okay")
    m.edit(Kind.UNCACHED_LOAD, 0, flags=0)
    noticed(m, "uncached load at 0x40000000 outside the map answered okay")


@pytest.mark.parametrize("addr, strobes", [(CSR_BASE + 0xFF8, 0x0F), (CSR_BASE + 0x300, 0xFF), (CSR_BASE + 0x300, 0x03)])
def test_refused_register_accesses(addr, strobes):
    m = Machine()
    m.emit(Kind.UNCACHED_STORE, addr, aux=strobes)
    m.emit(Kind.UNCACHED_STORE_DONE, addr, flags=1)
    m.emit(Kind.UNCACHED_LOAD, addr, aux=strobes, flags=1)
    m.csr_write("maint.start", 4)
    assert m.judge() == []


def test_uncached_bus_errors_need_a_fault():
    m = Machine()
    m.uncached_store(MEM, b"12345678", error=1)
    noticed(m, "a write answered a bus error that nothing had armed")
    m = Machine()
    for name, value in (("fault_addr", MEM), ("fault_size", 8), ("fault_ctrl", 1 | 1 << 8)):
        m.csr_write(f"mem.{name}", value)
    m.uncached_store(MEM, b"12345678", error=1)
    assert m.judge() == []


def test_an_uncached_access_never_looks_the_cache_up():
    """The mismatched-alias anomaly of real CPUs is predicted, not reported."""
    m = Machine()
    m.store(MEM, b"cached!!")
    m.uncached_store(MEM, b"UNCACHED")
    m.uncached_load(MEM, 8)
    m.load(MEM, 8)
    assert m.judge() == []
