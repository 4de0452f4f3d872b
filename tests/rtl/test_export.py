# SPDX-License-Identifier: BSD-2-Clause
"""The Verilog export: port names, directions, renames, memories."""

import re

import pytest
from amaranth import Module, Signal
from amaranth.hdl import unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.axi.bus import AXI4LiteSignature, AXI4Signature, AXIStreamSignature
from rtl.cache.ports import InvalidateSignature, SnoopSignature
from rtl.export import ExportedMemory, flat_ports, memories, verilog
from rtl.pio.signature import CsrSignature
from rtl.probe import ProbeLayout, ProbeSignature


class Colour(enum.Enum, shape=2):
    RED = 0
    GREEN = 1


class Storage(wiring.Component):
    """A RAM in a submodule, with other initial content on request."""

    address: In(4)
    value: Out(16)

    def __init__(self, depth, init=()):
        self.depth, self.init = depth, init
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=unsigned(16), depth=self.depth, init=self.init)
        port = ram.read_port()
        write = ram.write_port(granularity=8)
        m.d.comb += [port.addr.eq(self.address), self.value.eq(port.data), write.en.eq(self.address == 3), write.data.eq(5)]
        return m


class Block(wiring.Component):
    """Copies its inputs to its outputs; has every kind of port."""

    def __init__(self, depth=64, init=(), **more):
        self.depth, self.init = depth, init
        pair = data.StructLayout({"low": 8, "inner": data.StructLayout({"x": 3, "y": Colour}), "none": 0})
        super().__init__(
            {
                "s_axi_d": In(AXI4Signature(user_width=16)),
                "m_axi": Out(AXI4Signature(id_width=0)),
                "m_axil": Out(AXI4LiteSignature(user_width=16)),
                "m_axis": Out(AXIStreamSignature(user_width=32)),
                "csr": In(CsrSignature("mem")),
                "probe_mem": Out(ProbeSignature(128)),
                "snoop": Out(SnoopSignature(16)),
                "inv": Out(InvalidateSignature()).array(2),
                "bytes": In(stream.Signature(8, always_ready=True)),
                "pair": Out(pair),
                "pair_in": In(pair),
                "colour": In(Colour),
                "value": Out(16),
                **more,
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = Storage(self.depth, self.init)
        m.d.comb += [
            self.m_axi.ar.payload.addr.eq(self.s_axi_d.ar.payload.addr),
            self.pair.eq(self.pair_in),
            storage.address.eq(self.bytes.payload),
            self.value.eq(storage.value),
        ]
        return m


AXI_WRITE = (
    "awid awaddr awlen awsize awburst awcache awuser awvalid awready wdata wstrb wlast wvalid wready bid bresp bvalid bready"
)
AXI_READ = "arid araddr arlen arsize arburst arcache aruser arvalid arready rid rdata rresp rlast rvalid rready"


def directions(block=None, **kwargs):
    return {port.name: (port.direction, port.width) for port in flat_ports(block or Block(), **kwargs)}


def verilog_ports(text, module):
    """Ports of a module as its Verilog text declares them: name -> (direction, width)."""
    body = re.search(rf"^module {re.escape(module)}\(.*?^endmodule$", text, re.MULTILINE | re.DOTALL)[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\S+);$", body, re.MULTILINE)
    return {name: (direction, int(high or 0) + 1) for direction, high, name in found}


def test_axi4_names_and_directions():
    ports = directions()
    assert {n for n in ports if n.startswith("s_axi_d_")} == {f"s_axi_d_{n}" for n in f"{AXI_WRITE} {AXI_READ}".split()}
    assert ports["s_axi_d_awaddr"] == ("input", 32)
    assert ports["s_axi_d_awburst"] == ("input", 2)
    assert ports["s_axi_d_awready"] == ("output", 1)
    assert ports["s_axi_d_bid"] == ("output", 4)
    assert ports["s_axi_d_rready"] == ("input", 1)
    assert ports["m_axi_rdata"] == ("input", 64)
    assert ports["m_axi_wstrb"] == ("output", 8)


def test_zero_width_fields_are_left_out():
    ports = directions()
    assert not {"m_axi_awid", "m_axi_bid", "m_axi_arid", "m_axi_rid", "m_axi_awuser", "pair_none"} & set(ports)
    assert "[-1:0]" not in verilog(Block(), "block")


def test_axi4_lite_and_stream_names():
    ports = directions()
    lite = "awaddr awuser awvalid awready wdata wstrb wvalid wready bresp bvalid bready"
    lite += " araddr aruser arvalid arready rdata rresp rvalid rready"
    assert {n for n in ports if n.startswith("m_axil_")} == {f"m_axil_{n}" for n in lite.split()}
    assert {n for n in ports if n.startswith("m_axis_")} == {f"m_axis_t{n}" for n in "data keep last user valid ready".split()}
    assert ports["m_axis_tready"] == ("input", 1) and ports["m_axis_tkeep"] == ("output", 8)


def test_other_names():
    ports = directions()
    assert ports["probe_mem_valid"] == ("output", 1)
    assert ports["probe_mem_record"] == ("output", ProbeLayout(128).size)
    assert ports["snoop_req_data"] == ("output", 128) and ports["snoop_rsp_dirty"] == ("input", 1)
    assert ports["snoop_release"] == ("output", 1)
    assert ports["inv_1_req_cause"] == ("output", 4)
    assert ports["csr_fault_addr"] == ("input", 32) and ports["csr_row_hits_incr"] == ("output", 1)
    assert ports["bytes_payload"] == ("input", 8)
    assert ports["pair_inner_y"] == ("output", 2) and ports["pair_in_inner_x"] == ("input", 3)
    assert ports["colour"] == ("input", 2)


def test_verilog_has_exactly_the_flat_ports():
    text = verilog(Block(), "block")
    assert verilog_ports(text, "block") == {**directions(), "clk": ("input", 1), "rst": ("input", 1)}
    assert re.search(r"^  \\block\.dut  dut \($", text, re.MULTILINE)


def test_is_deterministic():
    assert verilog(Block(), "block") == verilog(Block(), "block")


def test_renames():
    ports = directions(ports={"value": "q"})
    assert "q" in ports and "value" not in ports
    assert "q" in verilog_ports(verilog(Block(), "block", ports={"value": "q"}), "block")
    with pytest.raises(ValueError, match="Renamed port must be a port of Block, not 'nothing'"):
        flat_ports(Block(), ports={"nothing": "q"})


def test_name_clashes_are_refused():
    with pytest.raises(ValueError, match="Port name must be unique in the exported module, not 'pair_low' twice"):
        flat_ports(Block(pair_low=Out(1)))
    with pytest.raises(ValueError, match="not 'rst' twice"):
        flat_ports(Block(), ports={"value": "rst"})


@pytest.mark.parametrize("name", ["", "1x", "a.b", "a b", None])
def test_module_name_must_be_an_identifier(name):
    with pytest.raises(ValueError, match="Module name must be a Verilog identifier"):
        verilog(Block(), name)


def test_memories_are_listed_by_path():
    text = verilog(Block(depth=128), "block")
    assert memories(text, "block") == [ExportedMemory("block.dut.storage.ram", 16, 128)]
    with pytest.raises(ValueError, match="Module must be one of the exported text's, not 'other'"):
        memories(text, "other")


def test_memory_content():
    text = verilog(Block(depth=64, init=[1, 2]), "block")
    assert "ram[1] = 16'h0002;" in text and "clear_ram" not in text
    text = verilog(Block(depth=32), "block")
    assert "ram[31] = 16'h0000;" in text and "clear_ram" not in text
    text = verilog(Block(depth=64), "block")
    assert "row <= 63" in text and "ram[1]" not in text and "SYNTHESIS" not in text
    text = verilog(Block(depth=8192), "block")
    assert "`ifndef SYNTHESIS\n  initial begin : clear_ram" in text


def test_a_large_memory_is_cheap():
    text = verilog(Block(depth=8 << 20), "block")
    assert len(text) < 100_000
    assert memories(text, "block")[0].depth == 8 << 20


def test_combinational_block_has_clock_and_reset():
    class Wire(wiring.Component):
        i: In(1)
        o: Out(1)

        def elaborate(self, platform):
            m = Module()
            keep = Signal()
            m.d.comb += [keep.eq(self.i), self.o.eq(keep)]
            return m

    assert set(verilog_ports(verilog(Wire(), "wires"), "wires")) == {"i", "o", "clk", "rst"}
