# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 crossbar: every manager reaches every target, at one beat per cycle and one cycle of added latency."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from ..axi.buffer import ShiftQueue
from ..axi.burst import crosses_window
from ..axi.bus import AXI4Signature, Resp
from .arbiter import RoundRobin

__all__ = ["Crossbar"]

#: Beats of AXI4's longest burst.
_LONGEST = 256


class _RejectState(enum.Enum, shape=2):
    IDLE = 0
    BEATS = 1
    RESPONSE = 2


class _Reject(wiring.Component):
    """The target of unmapped addresses: DECERR, with all beats of a read, and for a write after its last beat."""

    def __init__(self, signature: AXI4Signature):
        super().__init__({"s_axi": In(signature)})

    def elaborate(self, platform):
        m = Module()
        axi = self.s_axi

        reading = Signal()
        left = Signal(8)
        m.d.comb += [
            axi.ar.ready.eq(~reading),
            axi.r.valid.eq(reading),
            axi.r.payload.resp.eq(Resp.DECERR),
            axi.r.payload.last.eq(left == 0),
        ]
        with m.If(axi.ar.valid & axi.ar.ready):
            m.d.sync += [reading.eq(1), left.eq(axi.ar.payload.len), axi.r.payload.id.eq(axi.ar.payload.id)]
        with m.Elif(axi.r.valid & axi.r.ready):
            m.d.sync += [left.eq(left - 1), reading.eq(left != 0)]

        writing = Signal(_RejectState)
        m.d.comb += axi.b.payload.resp.eq(Resp.DECERR)
        with m.Switch(writing):
            with m.Case(_RejectState.IDLE):
                m.d.comb += axi.aw.ready.eq(1)
                with m.If(axi.aw.valid):
                    m.d.sync += [writing.eq(_RejectState.BEATS), axi.b.payload.id.eq(axi.aw.payload.id)]
            with m.Case(_RejectState.BEATS):
                m.d.comb += axi.w.ready.eq(1)
                with m.If(axi.w.valid & axi.w.payload.last):
                    m.d.sync += writing.eq(_RejectState.RESPONSE)
            with m.Case(_RejectState.RESPONSE):
                m.d.comb += axi.b.valid.eq(1)
                with m.If(axi.b.ready):
                    m.d.sync += writing.eq(_RejectState.IDLE)
        return m


class Crossbar(wiring.Component):
    """M managers, N targets, all of AXI4's five channels, several bursts in flight per manager.

    A burst goes to the target in whose window ``[base, base + size)`` its address lies; an INCR burst that would leave that
    window, and one that lies in none, gets DECERR: all beats of a read, the response after the last beat of a write.

    Latency: an address is at the target one cycle after its handshake with the manager, at the earliest; W, R and B pass in
    the same cycle, W from the second cycle after its burst's address handshake on. All run at one beat per cycle.

    Arbitration is round robin per target and burst, for AR and AW separately; write data follows the order of the granted
    AWs. At a target no manager waits for more than ``managers`` times 256 beats (AXI4's longest burst) of the others, whatever
    they ask for: a target is asked for at most 511 read beats ahead of its answers, and for two bursts ahead of their write
    data. (A manager's own earlier bursts come on top.)

    A manager's bursts of one direction are in flight at one target at a time (DECERR being a target): a burst to another
    one waits until the cycle after the last earlier response, so all responses of an ID come in order. At most
    ``outstanding`` bursts per manager and direction are in flight.

    The 4 KiB rule is the managers' duty. No grant is held while a response is awaited; a manager that withholds the beats of a
    write holds up the other managers' writes to that target, one that does not take its read beats their reads.

    Parameters
    ----------
    data_width : 32, 64 or 128 bits.
    managers : 1 to 16.
    id_width : bits of the managers' IDs. Targets see the manager's number in the bits above.
    targets : ``(base, size)`` of 1 to 16 windows in bytes, disjoint, both multiples of 128 (no WRAP burst of up to 128 bytes
        is cut by a window's end).
    outstanding : 1 to 255.

    Members
    -------
    s_axi_0 .. : ``In(AXI4Signature(id_width))``; m_axi_0 .. : ``Out(AXI4Signature(id_width + ceil(log2(managers))))``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or two windows overlap.
    """

    def __init__(
        self,
        *,
        data_width: int,
        managers: int,
        id_width: int,
        targets: list[tuple[int, int]],
        outstanding: int = 64,
    ):
        for name, value, low, high in (
            ("managers", managers, 1, 16),
            ("id_width", id_width, 0, 12),
            ("outstanding", outstanding, 1, 255),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"Crossbar {name} must be an integer from {low} to {high}, not {value!r}")
        windows = [tuple(window) for window in targets]
        if not 1 <= len(windows) <= 16:
            raise ValueError(f"Crossbar targets must be 1 to 16 windows, not {len(windows)}")
        for base, size in windows:
            if base % 128 or size % 128 or size <= 0 or base < 0 or base + size > 1 << 32:
                raise ValueError(
                    f"Crossbar target must be a window of whole 128-byte blocks below 2**32, not base {base:#x} size {size:#x}"
                )
        for (base, size), (later, _) in zip(sorted(windows), sorted(windows)[1:]):
            if base + size > later:
                raise ValueError(f"Crossbar targets must be disjoint, not [{base:#x}, {base + size:#x}) and {later:#x}")
        self._managers, self._targets, self._outstanding = managers, windows, outstanding
        self._id_width = id_width
        self._number_width = (managers - 1).bit_length()
        self._s_signature = AXI4Signature(data_width=data_width, id_width=id_width)
        self._m_signature = AXI4Signature(data_width=data_width, id_width=id_width + self._number_width)
        members = {f"s_axi_{n}": In(self._s_signature) for n in range(managers)}
        members |= {f"m_axi_{n}": Out(self._m_signature) for n in range(len(windows))}
        super().__init__(members)

    def _decode(self, m: Module, ax, name: str) -> Value:
        """The number of the target for an address payload; the number behind the last target for none."""
        number = Signal(range(len(self._targets) + 1), init=len(self._targets), name=name)
        for n, (base, size) in enumerate(self._targets):
            aligned = size & (size - 1) == 0 and base % size == 0
            bits = size.bit_length() - 1
            inside = (ax.addr[bits:] == base >> bits) if aligned else (ax.addr >= base) & (ax.addr < base + size)
            if (base + size) % 4096:
                # (No burst that keeps the 4 KiB rule leaves a window that ends on such a boundary.)
                inside = inside & ~crosses_window(ax.addr, ax.size, ax.len, ax.burst, base + size)
            with m.If(inside):
                m.d.comb += number.eq(n)
        return number

    def _route(self, m: Module, manager: int, direction: str, done: Value) -> tuple[Signal, data.View, Signal, Signal]:
        """Registers a manager's address channel and keeps its bursts at one target at a time.

        Returns the request lines (one per target, and one for DECERR), the registered payload, a signal to set when the
        request is accepted, and the target in use, one bit per target; ``done`` says that a response to this manager is
        complete. All that decides on a request is in flip-flops, one bit each: they start the longest paths.
        """
        targets = len(self._targets) + 1
        port = getattr(getattr(self, f"s_axi_{manager}"), direction)
        name = f"{direction}_{manager}"
        wanted = Signal(targets, name=f"{name}_wanted")  # by the burst that waits; none is 0
        payload = Signal(port.payload.shape(), name=f"{name}_payload")
        current = Signal(targets, init=1, name=f"{name}_current")
        flying = Signal(range(self._outstanding + 1), name=f"{name}_flying")
        none, full = Signal(init=1, name=f"{name}_none"), Signal(name=f"{name}_full")  # about `flying`
        accepted = Signal(name=f"{name}_accepted")

        decoded = self._decode(m, port.payload, f"{name}_decoded")
        m.d.comb += port.ready.eq(~wanted.any() | accepted)
        with m.If(port.ready):
            m.d.sync += [wanted.eq(Mux(port.valid, 1 << decoded, 0)), payload.eq(port.payload)]

        with m.If(accepted):
            m.d.sync += current.eq(wanted)
        with m.If(accepted & ~done):
            m.d.sync += [flying.eq(flying + 1), none.eq(0), full.eq(flying == self._outstanding - 1)]
        with m.Elif(done & ~accepted):
            m.d.sync += [flying.eq(flying - 1), none.eq(flying == 1), full.eq(0)]
        requests = Signal(targets, name=f"{name}_requests")
        m.d.comb += requests.eq(Cat(wanted[n] & (none | (current[n] & ~full)) for n in range(targets)))
        return requests, payload, accepted, current

    def elaborate(self, platform):
        m = Module()
        managers = [getattr(self, f"s_axi_{n}") for n in range(self._managers)]
        rejects = []
        for n in range(self._managers):
            m.submodules[f"reject_{n}"] = reject = _Reject(self._s_signature)
            rejects.append(reject.s_axi)
        ports = [getattr(self, f"m_axi_{n}") for n in range(len(self._targets))]

        # For each manager: is the R / B channel of its present target completing a burst?
        r_done = [Signal(name=f"r_done_{n}") for n in range(self._managers)]
        b_done = [Signal(name=f"b_done_{n}") for n in range(self._managers)]
        reads = [self._route(m, n, "ar", r_done[n]) for n in range(self._managers)]
        writes = [self._route(m, n, "aw", b_done[n]) for n in range(self._managers)]

        # --- addresses to the targets
        w_order = []  # per target: whose write data comes next
        for t, port in enumerate(ports):
            for direction, routes in (("ar", reads), ("aw", writes)):
                channel = getattr(port, direction)
                m.submodules[f"{direction}_arbiter_{t}"] = arbiter = RoundRobin(self._managers)
                # The arbiter must not see a request that is not let through this cycle, or VALID would drop.
                if direction == "ar":
                    owed = Signal(range(2 * _LONGEST), name=f"owed_{t}")  # beats asked for and not yet given
                    blocked = owed[-1]
                    taken, given = Signal(name=f"ar_taken_{t}"), Signal(name=f"r_given_{t}")
                    m.d.comb += [
                        taken.eq(channel.valid & channel.ready),
                        given.eq(port.r.valid & port.r.ready),
                    ]
                    with m.If(taken):
                        m.d.sync += owed.eq(owed + channel.payload.len + ~given)
                    with m.Elif(given):
                        m.d.sync += owed.eq(owed - 1)
                else:
                    m.submodules[f"w_order_{t}"] = order = ShiftQueue(data.StructLayout({"manager": self._number_width}), depth=2)
                    w_order.append(order)
                    blocked = ~order.i.ready
                    m.d.comb += [
                        order.i.valid.eq(channel.valid & channel.ready),
                        order.i.payload.manager.eq(arbiter.grant),
                    ]
                m.d.comb += [
                    arbiter.request.eq(Mux(blocked, 0, Cat(route[0][t] for route in routes))),
                    arbiter.done.eq(channel.ready),
                    channel.valid.eq(arbiter.request.any()),
                ]
                with m.Switch(arbiter.grant):
                    for n, (_, payload, accepted, _) in enumerate(routes):
                        with m.Case(n):
                            m.d.comb += [
                                *(channel.payload[f].eq(payload[f]) for f in ("addr", "len", "size", "burst", "cache")),
                                channel.payload.id.eq(Cat(payload.id, Const(n, self._number_width))),
                            ]
                            with m.If(arbiter.request.any()):
                                m.d.comb += accepted.eq(channel.ready)

        # --- what no target takes
        for n, reject in enumerate(rejects):
            for direction, routes in (("ar", reads), ("aw", writes)):
                channel = getattr(reject, direction)
                requests, payload, accepted, _ = routes[n]
                m.d.comb += [channel.valid.eq(requests[-1]), channel.payload.eq(payload)]
                with m.If(requests[-1]):
                    m.d.comb += accepted.eq(channel.ready)

        # --- write data: the order queue names the manager
        for n, manager in enumerate(managers):
            m.d.comb += [
                rejects[n].w.valid.eq(manager.w.valid),
                rejects[n].w.payload.eq(manager.w.payload),
            ]
            with m.If(rejects[n].w.ready):
                m.d.comb += manager.w.ready.eq(1)
        for port, order in zip(ports, w_order):
            for n, manager in enumerate(managers):
                with m.If(order.o.valid & (order.o.payload.manager == n)):
                    m.d.comb += [
                        port.w.valid.eq(manager.w.valid),
                        port.w.payload.eq(manager.w.payload),
                        manager.w.ready.eq(port.w.ready),
                        order.o.ready.eq(port.w.valid & port.w.ready & port.w.payload.last),
                    ]

        # --- responses: the manager's number is in the ID, and a manager listens to the target it uses
        for n, manager in enumerate(managers):
            for direction, routes, done in (("r", reads, r_done[n]), ("b", writes, b_done[n])):
                upstream = getattr(manager, direction)
                current = routes[n][3]
                for t, port in enumerate([*ports, rejects[n]]):
                    channel = getattr(port, direction)
                    mine = current[t]
                    if t < len(ports):
                        mine = mine & (channel.payload.id[self._id_width :] == n)
                    with m.If(mine):
                        m.d.comb += [
                            upstream.valid.eq(channel.valid),
                            *(
                                upstream.payload[field].eq(channel.payload[field][: self._id_width])
                                if field == "id"
                                else upstream.payload[field].eq(channel.payload[field])
                                for field in upstream.payload.shape().members
                            ),
                            channel.ready.eq(upstream.ready),
                        ]
                last = upstream.payload.last if direction == "r" else 1
                m.d.comb += done.eq(upstream.valid & upstream.ready & last)
        return m
