# SPDX-License-Identifier: BSD-2-Clause
"""AXI4, AXI4-Lite and AXI-Stream as Amaranth interface signatures.

Each AXI channel is one :class:`amaranth.lib.stream.Signature` whose payload is a struct, so the four
stream transfer rules are the AXI handshake rules (ARM IHI 0022H.c, A3.2.1; ARM IHI 0051B for streams).
:mod:`rtl.export` gives the flat customary names (``s_axi_awaddr`` ...) at a module's boundary.

Signatures are written from the manager's (transmitter's) side: ``Out(AXI4Signature(...))`` is a
manager port ``m_axi``, ``In(AXI4Signature(...))`` a subordinate port ``s_axi``.
"""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "Burst",
    "Resp",
    "CACHE_NORMAL",
    "CACHE_UNCACHED",
    "AXI4Signature",
    "AXI4LiteSignature",
    "AXIStreamSignature",
]


class Burst(enum.Enum, shape=2):
    """AxBURST (IHI 0022H.c, table A3-3)."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Resp(enum.Enum, shape=2):
    """RRESP / BRESP (IHI 0022H.c, table A3-4)."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


#: AxCACHE of a cached access (write-back, read- and write-allocate).
CACHE_NORMAL = 0b1111
#: AxCACHE of an uncached access (normal non-cacheable, bufferable). Cached means AxCACHE[3:2] != 0.
CACHE_UNCACHED = 0b0011

_DATA_WIDTHS = (32, 64, 128)


def _check_width(owner: str, name: str, value: int, allowed: range | tuple[int, ...]) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        if isinstance(allowed, range):
            rule = f"an integer from {allowed.start} to {allowed.stop - 1}"
        else:
            rule = "one of " + ", ".join(str(v) for v in allowed)
        raise ValueError(f"{owner} {name} must be {rule}, not {value!r}")


class _BusSignature(wiring.Signature):
    """Equality and repr by parameters; subclasses list theirs in ``_params``."""

    _params: tuple[str, ...] = ()

    def __eq__(self, other):
        return type(self) is type(other) and all(getattr(self, p) == getattr(other, p) for p in self._params)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{p}={getattr(self, p)}' for p in self._params)})"


class AXI4Signature(_BusSignature):
    """AXI4 manager port: channels ``aw``, ``w``, ``b``, ``ar``, ``r``.

    Payload fields: AW/AR ``id addr len size burst cache user``; W ``data strb last``; B ``id resp``;
    R ``id data resp last``. ``len`` is beats minus one, ``size`` the log2 of bytes per beat.
    LOCK, PROT, QOS and REGION are not carried: nothing in this system looks at them.

    Parameters
    ----------
    data_width : 32, 64 or 128 bits.
    addr_width : bits, 1 to 64.
    id_width : bits, 0 to 16.
    user_width : bits of AxUSER, 0 to 32 (0: the field is absent).

    Raises
    ------
    ValueError
        If a width is out of its range.
    """

    _params = ("data_width", "addr_width", "id_width", "user_width")

    def __init__(self, *, data_width: int = 64, addr_width: int = 32, id_width: int = 4, user_width: int = 0):
        _check_width("AXI4", "data_width", data_width, _DATA_WIDTHS)
        _check_width("AXI4", "addr_width", addr_width, range(1, 65))
        _check_width("AXI4", "id_width", id_width, range(0, 17))
        _check_width("AXI4", "user_width", user_width, range(0, 33))
        self._data_width, self._addr_width = data_width, addr_width
        self._id_width, self._user_width = id_width, user_width
        address = {"id": id_width, "addr": addr_width, "len": 8, "size": 3, "burst": Burst, "cache": 4}
        if user_width:
            address["user"] = user_width
        self._ax_layout = data.StructLayout(address)
        self._w_layout = data.StructLayout({"data": data_width, "strb": data_width // 8, "last": 1})
        self._b_layout = data.StructLayout({"id": id_width, "resp": Resp})
        self._r_layout = data.StructLayout({"id": id_width, "data": data_width, "resp": Resp, "last": 1})
        super().__init__(
            {
                "aw": Out(stream.Signature(self._ax_layout)),
                "w": Out(stream.Signature(self._w_layout)),
                "b": In(stream.Signature(self._b_layout)),
                "ar": Out(stream.Signature(self._ax_layout)),
                "r": In(stream.Signature(self._r_layout)),
            }
        )

    data_width = property(lambda self: self._data_width)
    addr_width = property(lambda self: self._addr_width)
    id_width = property(lambda self: self._id_width)
    user_width = property(lambda self: self._user_width)
    ax_layout = property(lambda self: self._ax_layout)
    w_layout = property(lambda self: self._w_layout)
    b_layout = property(lambda self: self._b_layout)
    r_layout = property(lambda self: self._r_layout)


class AXI4LiteSignature(_BusSignature):
    """AXI4-Lite manager port (IHI 0022H.c, part B): channels ``aw`` (``addr``), ``w`` (``data strb``), ``b`` (``resp``),
    ``ar`` (``addr``), ``r`` (``data resp``).

    ``user_width`` > 0 adds ``user`` to AW/AR; the SoC uses it to hand a CPU access's source tag to the registers.
    """

    _params = ("data_width", "addr_width", "user_width")

    def __init__(self, *, data_width: int = 32, addr_width: int = 32, user_width: int = 0):
        _check_width("AXI4-Lite", "data_width", data_width, (32, 64))
        _check_width("AXI4-Lite", "addr_width", addr_width, range(1, 65))
        _check_width("AXI4-Lite", "user_width", user_width, range(0, 33))
        self._data_width, self._addr_width, self._user_width = data_width, addr_width, user_width
        address = {"addr": addr_width}
        if user_width:
            address["user"] = user_width
        ax = data.StructLayout(address)
        super().__init__(
            {
                "aw": Out(stream.Signature(ax)),
                "w": Out(stream.Signature(data.StructLayout({"data": data_width, "strb": data_width // 8}))),
                "b": In(stream.Signature(data.StructLayout({"resp": Resp}))),
                "ar": Out(stream.Signature(ax)),
                "r": In(stream.Signature(data.StructLayout({"data": data_width, "resp": Resp}))),
            }
        )

    data_width = property(lambda self: self._data_width)
    addr_width = property(lambda self: self._addr_width)
    user_width = property(lambda self: self._user_width)


class AXIStreamSignature(_BusSignature):
    """AXI-Stream transmitter port: one stream ``t`` with payload ``data keep last`` and, if asked for, ``user``.

    ``keep`` marks the valid bytes of a beat; in this system they are contiguous.
    """

    _params = ("data_width", "user_width")

    def __init__(self, *, data_width: int = 64, user_width: int = 0):
        _check_width("AXI-Stream", "data_width", data_width, _DATA_WIDTHS)
        _check_width("AXI-Stream", "user_width", user_width, range(0, 65))
        self._data_width, self._user_width = data_width, user_width
        fields = {"data": data_width, "keep": data_width // 8, "last": 1}
        if user_width:
            fields["user"] = user_width
        super().__init__({"t": Out(stream.Signature(data.StructLayout(fields)))})

    data_width = property(lambda self: self._data_width)
    user_width = property(lambda self: self._user_width)
