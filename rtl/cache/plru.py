# SPDX-License-Identifier: BSD-2-Clause
"""Tree pseudo-LRU: which way to replace, and how an access turns the tree away from its way.

The tree of a set has ``ways - 1`` nodes in heap order (node 1 is the root, children of n are 2n and 2n+1); a node's bit names
the half that was used less recently. State is one vector per node with one bit per set, so that reset clears it at once.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value

__all__ = ["TreePlru"]


class TreePlru:
    """PLRU state of a cache; a helper that adds its logic to the owner's module.

    Parameters
    ----------
    sets, ways : powers of two; one way has no state.
    """

    def __init__(self, sets: int, ways: int):
        self.ways, self.levels = ways, (ways - 1).bit_length()
        self.nodes = [Signal(sets, name=f"plru_{n}") for n in range(1, ways)]
        self.sets = sets

    def victim(self, index: Value) -> Value:
        """The less recently used way of a set, as a number (combinational)."""
        bits = [node.bit_select(index, 1) for node in self.nodes]

        def descend(node: int, level: int) -> list[Value]:
            """Bits of the way number below this node, most significant first."""
            if level == self.levels:
                return []
            left, right = descend(2 * node, level + 1), descend(2 * node + 1, level + 1)
            return [bits[node - 1]] + [Mux(bits[node - 1], r, lo) for lo, r in zip(left, right)]

        return Cat(*reversed(descend(1, 0))) if self.levels else Const(0, 1)

    def touch(self, m: Module, index: Value, one_hot: Value, enable: Value) -> None:
        """After this edge every node on the way's path points to its other half. Call once per module."""
        mask = Signal(self.sets, name="plru_mask")
        m.d.comb += mask.eq(Mux(enable, 1 << index, 0))
        for n in range(1, self.ways):
            depth = n.bit_length() - 1
            span = self.ways >> depth
            low = (n - (1 << depth)) * span
            in_left = one_hot[low : low + span // 2].any()
            in_right = one_hot[low + span // 2 : low + span].any()
            node = self.nodes[n - 1]
            with m.If(in_left):
                m.d.sync += node.eq(node | mask)
            with m.Elif(in_right):
                m.d.sync += node.eq(node & ~mask)
