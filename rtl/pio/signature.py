# SPDX-License-Identifier: BSD-2-Clause
"""The port between the register bank and one block, derived from the register table.

Seen from the bank (``Out(CsrSignature(...))`` in the bank, ``In(...)`` in the block); member names are
``<register>_<field>``, or just ``<register>`` where the only field is called ``value``:

====== =====================================================================================================
access members
====== =====================================================================================================
ro     ``x: In(width)`` the value to read
rw     ``x: Out(width)`` the stored value; changes one cycle after the access, together with ``<register>_written``
rwh    ``x_w: Out(width)`` the written value, valid while ``<register>_written``; ``x: In(width)`` the value to read
w1c    ``x_set: In(1)`` sets the flag (set wins over clear); ``x: Out(1)`` the flag
w      ``x: Out(width)`` the written value while ``<register>_written``, else 0
count  ``x_incr: In(1)`` an event in this cycle; a read of the next cycle has it. The counter itself is in the bank
port   ``x_w_data: Out(32)``, ``x_w_strobe: Out(1)``, ``x_r_strobe: Out(1)``, ``x_r_data: In(32)``, ``x_error: In(1)``:
       ``r_data`` and ``error`` are sampled in the strobe's cycle; with ``error`` the access answers SLVERR
====== =====================================================================================================

``<register>_written: Out(1)`` exists for each register with an ``rw``, ``rwh`` or ``w`` field: high for one cycle per write, in
the first cycle in which the new ``rw`` value is visible.
"""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .table import Field, Register, registers

__all__ = ["CsrSignature", "member_name"]


def member_name(register: Register, field: Field) -> str:
    """Name of a field's member in its block's :class:`CsrSignature`."""
    return register.name if field.name == "value" else f"{register.name}_{field.name}"


class CsrSignature(wiring.Signature):
    """Register port of the block called ``block`` (``"dcache"``, ``"ch0"``, ...), seen from the bank.

    Raises
    ------
    ValueError
        If the table has no block of that name.
    """

    def __init__(self, block: str):
        self._block = block
        members: dict = {}
        mine = [register for register in registers(4) if register.block == block]
        if not mine:
            raise ValueError(f"CSR block must be one of the register table's blocks, not {block!r}")
        for register in mine:
            if any(field.access in ("rw", "rwh", "w") for field in register.fields):
                members[f"{register.name}_written"] = Out(1)
            for field in register.fields:
                name = member_name(register, field)
                if field.access == "ro":
                    members[name] = In(field.width)
                elif field.access == "rw":
                    members[name] = Out(field.width, init=field.reset)
                elif field.access == "rwh":
                    members[f"{name}_w"] = Out(field.width)
                    members[name] = In(field.width)
                elif field.access == "w1c":
                    members[f"{name}_set"] = In(1)
                    members[name] = Out(1)
                elif field.access == "count":
                    members[f"{name}_incr"] = In(1)
                elif field.access == "w":
                    members[name] = Out(field.width)
                else:
                    members[f"{name}_w_data"] = Out(32)
                    members[f"{name}_w_strobe"] = Out(1)
                    members[f"{name}_r_strobe"] = Out(1)
                    members[f"{name}_r_data"] = In(32)
                    members[f"{name}_error"] = In(1)
        super().__init__(members)

    block = property(lambda self: self._block)

    def __eq__(self, other):
        return type(self) is type(other) and self._block == other._block

    def __repr__(self):
        return f"CsrSignature({self._block!r})"
