# SPDX-License-Identifier: BSD-2-Clause
"""Register accessors for the driver, built from the table the hardware is built from (:mod:`rtl.pio.table`).

::

    regs = await Registers.discover(bus)           # or Registers(bus, system_channels=1) without touching the bus
    status = await regs.dma.flush_status.read()    # one bus read
    if status.done and not status.ok: ...
    await regs.maint.start.write(0x8000_0000)      # one bus write of the whole register
    await regs.ch0.mode.write(write_to_device=1)   # one bus write; fields that are not named are written as zero
    await regs.dcache.ctrl.modify(prefetch=1)      # a read and a write; storage fields that are not named keep their value
    await regs.dma.flush_status.clear("done")      # one bus write; write-one-to-clear flags that are not named stay

Every access is one uncached, aligned 32-bit access of the :class:`~driver.bus.Bus` (``read32`` / ``write32``); what the
register does with it stands in ``docs/registers.md``. A bus that answers with an error raises
:class:`~driver.bus.BusError`, unchanged. A mistake of the caller raises before the bus is touched::

    FlushpointError
     +-- RegisterError (also a ValueError)   wrong field, value out of range, write to a read-only register
    AttributeError                           no such block, register, or field of a value
"""

from collections.abc import Iterator

from rtl.pio.table import IDENTIFICATION, IRQ, WINDOW_BASE, Field, Register, registers

from .bus import Bus, FlushpointError

__all__ = ["IRQ", "RegisterAccess", "RegisterBlock", "RegisterError", "RegisterValue", "Registers"]

_WORD = (1 << 32) - 1
_READ_ONLY = ("ro", "count")


class RegisterError(FlushpointError, ValueError):
    """An access that the register table forbids; the text names register, field, value and rule."""


class RegisterValue(int):
    """What a register held: the 32-bit word, with the register's fields as attributes.

    Compares and formats like the integer it is, so ``regs.sys.cycle.read()`` can be used as a number. Fields that the
    hardware reads as zero (write-only ones) read as zero here.
    """

    register: Register

    def __new__(cls, register: Register, word: int) -> "RegisterValue":
        self = super().__new__(cls, word & _WORD)
        self.register = register
        return self

    def __getattr__(self, name: str) -> int:
        register = self.__dict__.get("register")
        if register is not None:
            for field in register.fields:
                if field.name == name:
                    return (int(self) >> field.low) & ((1 << field.width) - 1)
            raise AttributeError(f"{register.full_name} has no field {name!r}; its fields are {_names(register.fields)}")
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(field.name for field in self.register.fields)})

    def fields(self) -> dict[str, int]:
        """All fields by name, in the table's order."""
        return {field.name: getattr(self, field.name) for field in self.register.fields}

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value:#x}" for name, value in self.fields().items())
        return f"<{self.register.full_name} {int(self):#010x}: {inner}>"


class RegisterAccess:
    """One register on a bus. ``register`` is its table entry, ``address`` its byte address."""

    def __init__(self, bus: Bus, register: Register, base: int):
        self._bus, self.register, self.address = bus, register, base + register.offset

    def __repr__(self) -> str:
        return f"<{self.register.full_name} at {self.address:#010x}>"

    async def read(self) -> RegisterValue:
        """Reads the register: one bus access.

        Raises
        ------
        BusError
            If the hardware refuses (``dev.pio_data`` without ``drq``).
        """
        return RegisterValue(self.register, await self._bus.read32(self.address))

    async def write(self, value: int | None = None, /, **fields: int) -> None:
        """Writes the register: one bus access. Returns when the register has answered.

        Parameters
        ----------
        value : the whole word, 0 to 2**32-1; its bits in read-only fields are ignored by the hardware.
        fields : instead of ``value``, fields by name. A field that is not named is written as zero: a storage field
            becomes zero whatever its reset value is, a write-one-to-clear flag stays, a command is not given.

        Raises
        ------
        RegisterError
            If the register is read-only, both or none of ``value`` and ``fields`` are given, a field is unknown or
            read-only, or a value does not fit.
        BusError
            If the hardware refuses.
        """
        await self._bus.write32(self.address, self.encode(value, **fields))

    async def modify(self, **fields: int) -> RegisterValue:
        """Reads the register, changes the named fields, writes it; returns the word written. Two bus accesses.

        Storage fields (``rw``, ``rwh``) that are not named keep the value just read, all other fields are written as zero:
        no flag is cleared and no command is given unless named. Not atomic against other coroutines or the hardware.

        Raises
        ------
        RegisterError
            As :meth:`write`; and if the register is a port, whose reads have side effects.
        """
        word = self.encode(None, **fields)
        if any(field.access == "port" for field in self.register.fields):
            raise RegisterError(f"{self.register.full_name} must be read or written, not modified: its reads have side effects")
        named = sum(self.register.field(name).mask for name in fields)
        word |= await self._kept() & ~named
        await self._bus.write32(self.address, word)
        return RegisterValue(self.register, word)

    async def clear(self, *names: str) -> None:
        """Clears write-one-to-clear flags: the named ones, or all of the register. Storage fields keep their values.

        One bus access (two if the register also has storage fields).

        Raises
        ------
        RegisterError
            If the register has no such flags, or a name is not one of them.
        """
        flags = [field for field in self.register.fields if field.access == "w1c"]
        if not flags:
            raise RegisterError(f"{self.register.full_name} must have write-one-to-clear flags to be cleared; it has none")
        known = {field.name for field in flags}
        for name in names:
            if name not in known:
                raise RegisterError(
                    f"{self.register.full_name} flag to clear must be one of {_names(flags)} (write-one-to-clear), not {name!r}"
                )
        mask = sum(field.mask for field in flags if not names or field.name in names)
        await self._bus.write32(self.address, mask | await self._kept())

    def encode(self, value: int | None = None, /, **fields: int) -> int:
        """The word that :meth:`write` would put on the bus; raises :class:`RegisterError` like it."""
        name = self.register.full_name
        writable = [field for field in self.register.fields if field.access not in _READ_ONLY]
        if not writable:
            raise RegisterError(f"{name} must not be written: all its fields are read-only")
        if (value is None) == (not fields):
            raise RegisterError(f"{name} write must have either a whole value or fields by name ({_names(writable)})")
        if value is not None:
            if not isinstance(value, int) or not 0 <= value <= _WORD:
                raise RegisterError(f"{name} value must be an integer from 0 to {_WORD:#x}, not {_show(value)}")
            return int(value)
        word = 0
        for field_name, content in fields.items():
            for field in self.register.fields:
                if field.name == field_name:
                    break
            else:
                raise RegisterError(f"{name} field must be one of {_names(writable)}, not {field_name!r}")
            if field.access in _READ_ONLY:
                raise RegisterError(f"{name}.{field_name} must not be written: it is read-only (value {_show(content)})")
            limit = (1 << field.width) - 1
            if not isinstance(content, int) or not 0 <= content <= limit:
                raise RegisterError(f"{name}.{field_name} must be an integer from 0 to {limit:#x}, not {_show(content)}")
            word |= int(content) << field.low
        return word

    async def _kept(self) -> int:
        """The storage bits as they are now; no bus access where there are none."""
        mask = sum(field.mask for field in self.register.fields if field.access in ("rw", "rwh"))
        return await self._bus.read32(self.address) & mask if mask else 0


class RegisterBlock:
    """The registers of one block as attributes; iterating gives them by ascending offset."""

    def __init__(self, name: str, accesses: dict[str, RegisterAccess]):
        self._name, self._accesses = name, accesses

    def __getattr__(self, name: str) -> RegisterAccess:
        accesses = self.__dict__.get("_accesses", {})
        if name in accesses:
            return accesses[name]
        raise AttributeError(f"block {self.__dict__.get('_name')!r} has no register {name!r}; it has {', '.join(accesses)}")

    def __iter__(self) -> Iterator[RegisterAccess]:
        return iter(self._accesses.values())

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._accesses})

    def __repr__(self) -> str:
        return f"<registers of {self._name}: {', '.join(self._accesses)}>"


class Registers:
    """All registers of a SoC: ``regs.<block>.<register>``; ``regs.ch0`` .. are the system channels.

    Parameters
    ----------
    bus : the bus all accesses go to.
    system_channels : how many system channels the SoC has, 1 to 4 (``sys.features.system_channels``).
    base : byte address of the register window.

    Raises
    ------
    RegisterError
        If ``system_channels`` or ``base`` is out of range.
    """

    def __init__(self, bus: Bus, *, system_channels: int = 1, base: int = WINDOW_BASE):
        if not isinstance(system_channels, int) or isinstance(system_channels, bool) or not 1 <= system_channels <= 4:
            raise RegisterError(f"system_channels must be an integer from 1 to 4, not {system_channels!r}")
        if not isinstance(base, int) or isinstance(base, bool) or not 0 <= base <= _WORD or base % 0x1000:
            raise RegisterError(f"base must be a 32-bit multiple of 0x1000, not {_show(base)}")
        self.bus, self.base, self.system_channels = bus, base, system_channels
        grouped: dict[str, dict[str, RegisterAccess]] = {}
        for register in registers(system_channels):
            grouped.setdefault(register.block, {})[register.name] = RegisterAccess(bus, register, base)
        self._blocks = {name: RegisterBlock(name, accesses) for name, accesses in grouped.items()}

    @classmethod
    async def discover(cls, bus: Bus, *, base: int = WINDOW_BASE) -> "Registers":
        """Reads ``sys.id`` and ``sys.features`` and returns the registers of the SoC found there. Two bus accesses.

        Raises
        ------
        RegisterError
            If ``sys.id`` is not this hardware's.
        """
        first = cls(bus, base=base)
        found = await first.sys.id.read()
        if found != IDENTIFICATION:
            raise RegisterError(f"sys.id at {first.sys.id.address:#010x} must be {IDENTIFICATION:#010x}, not {int(found):#010x}")
        features = await first.sys.features.read()
        return cls(bus, base=base, system_channels=features.system_channels)

    def channel(self, number: int) -> RegisterBlock:
        """System channel ``number``'s registers (``regs.channel(0) is regs.ch0``).

        Raises
        ------
        RegisterError
            If the SoC has no such channel.
        """
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < self.system_channels:
            raise RegisterError(f"channel must be an integer from 0 to {self.system_channels - 1}, not {number!r}")
        return self._blocks[f"ch{number}"]

    def __getattr__(self, name: str) -> RegisterBlock:
        blocks = self.__dict__.get("_blocks", {})
        if name in blocks:
            return blocks[name]
        raise AttributeError(f"there is no register block {name!r}; the blocks are {', '.join(blocks)}")

    def __iter__(self) -> Iterator[RegisterBlock]:
        return iter(self._blocks.values())

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._blocks})


def _names(fields: tuple[Field, ...] | list[Field]) -> str:
    return ", ".join(field.name for field in fields)


def _show(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
