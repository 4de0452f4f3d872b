# SPDX-License-Identifier: BSD-2-Clause
"""The oracle's scripts on the recording machine: what the checker gets to see."""

from .interfaces import Interfaces
from .machine import BASE
from .oracle import CELLS, CELLS_PER_LINE, settled

BUF = BASE + 0x800
CELL = 16


def record(script, transfers, where, rng):
    """Runs a script on a :class:`Machine`, with evictions, prefetches and progress as ``rng`` says."""
    script = settled(script, transfers)
    m = Interfaces(
        speculates=where.speculates,
        invalidate_after_read=where.invalidate_after_read,
        clean_before_read=where.clean_before_read,
        architecture=where.architecture,
        bounce=where.bounce,
        for_cpu=True,
    )
    m.site_line = 1
    adapters = {
        n: m.adapter(master=dma.common, channel=0, version=3 if dma.interface == "v3" else 2)
        for n, dma in transfers.items()
        if dma.interface in ("wdk", "v3")
    }
    contexts = {n: m.context(adapters[n]) for n, dma in transfers.items() if dma.interface == "v3"}
    dma_of = {}
    mdls = {n: m.mdl(*ranges_of(dma.cells)) for n, dma in transfers.items()}
    running, buffers = {}, {}
    for n, dma in transfers.items():
        if dma.common and not buffers:
            # one buffer, large enough for every transfer
            address, length = BUF, CELLS * CELL
            buffers = dict.fromkeys(transfers, m.common_buffer(adapters[n], address, length, True))

    def luck():
        for line in range(CELLS // CELLS_PER_LINE):
            address = BUF + line * CELLS_PER_LINE * CELL
            if rng.random() < 0.2:
                m.evict(address)
            elif where.speculates and rng.random() < 0.2:
                m.prefetch(address)
            if where.speculates and rng.random() < 0.1:
                m.prefetch_code(address)
        for transfer in running.values():
            if not transfer.get("over"):
                m.move(transfer, rng.choice((0, 1, 16, 40)))
        if m.posted and rng.random() < 0.3:
            m.work()

    for position, op in enumerate(script, 2):
        luck()
        m.site_line = position
        kind = op[0]
        if kind in ("store", "pio"):
            for address, length in ranges_of(op[1]):
                data = bytes([position] * length)
                (m.store if kind == "store" else m.pio_read)(address, data)
        elif kind in ("load", "fetch", "uload"):
            for address, length in ranges_of(op[1]):
                {"load": m.load, "fetch": m.fetch, "uload": m.load_uncached}[kind](address, length)
        elif kind == "ke":
            m.ke_flush(m.mdl(*ranges_of(op[1])), op[2], op[3])
        elif kind == "maint":
            m.maintain(op[1], ranges_of(op[2]), op[3])
        elif kind == "start":
            n = op[1]
            if n not in running:
                dma = transfers[n]
                m.device[:64] = bytes(0x80 + n for _ in range(64))
                ranges = dma_of.get(dma.mapping or n, ranges_of(dma.cells))
                owner = m.linux if dma.interface == "linux" else None
                running[n] = m.start(adapters.get(n), ranges, dma.write, buffers.get(n), owner=owner)
        elif kind == "wait":
            transfer = running.get(op[1])
            if transfer is not None and not transfer.get("over"):
                m.finish(transfer)
                transfer["over"] = True
        elif kind == "flush":
            m.flush_adapter(adapters[op[1]], mdls[op[1]], transfers[op[1]].write)
        elif kind == "post":
            m.post(op[1], ranges_of(op[2]), op[3])
        elif kind == "dsb":
            m.dsb()
        elif kind == "drain":
            m.drain()
        elif kind == "mapex":
            dma_of[op[1]] = m.map_ex(adapters[op[1]], contexts[op[1]], mdls[op[1]], transfers[op[1]].write)
        elif kind == "flushex":
            n = op[1]
            m.flush_ex(adapters[n], contexts[n], mdls[n], transfers[n].write, elements=dma_of.pop(n, ()))
        elif kind in ("map", "syncdev", "synccpu", "unmap"):
            n = op[1]
            ((address, length),) = ranges_of(transfers[n].cells)
            way = transfers[n].way
            at = dma_of.get(n, [(address, length)])[0][0]
            if kind == "map":
                dma_of[n] = [(m.linux_map(address, length, way), length)]
            elif kind == "unmap":
                dma_of.pop(n, None)
                m.linux_unmap(at, length, way)
            else:
                (m.sync_for_device if kind == "syncdev" else m.sync_for_cpu)(at, length, way)
        elif kind == "irp":
            m.complete_irp(m.mdl(*ranges_of(op[1])))
    return m.run()


def ranges_of(cells):
    out = []
    for cell in sorted(cells):
        if out and out[-1][0] + out[-1][1] == BUF + cell * CELL:
            out[-1] = (out[-1][0], out[-1][1] + CELL)
        else:
            out.append((BUF + cell * CELL, CELL))
    return out
