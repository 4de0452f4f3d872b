# SPDX-License-Identifier: BSD-2-Clause
"""What the register bank does with a block's counted events."""

__all__ = ["EventCounters"]

_SUFFIX = "_incr"


class EventCounters:
    """Counts the events at a block's CSR port; ``counts[register]`` is what a read of the register bank would give.

    ``run`` is a process of the simulator.
    """

    def __init__(self, csr):
        self._csr = csr
        self.counts = {name.removesuffix(_SUFFIX): 0 for name in csr.signature.members if name.endswith(_SUFFIX)}

    async def run(self, ctx):
        pulses = [getattr(self._csr, name + _SUFFIX) for name in self.counts]
        async for _, reset, *values in ctx.tick().sample(*pulses):
            for name, value in zip(self.counts, values):
                self.counts[name] = 0 if reset else self.counts[name] + value
