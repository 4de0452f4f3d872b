# SPDX-License-Identifier: BSD-2-Clause
"""Where a scenario's bytes lie, which part of the payload they are, and the images everything is filled with first.

Memory window, from its base::

    0x0000  scratch: the bytes that prime the chunk FIFO
    0x1000  a bounce buffer
    0x4000  the streaming buffer (plus the scenario's offset within a line)
    ...     the driver's pool, from :func:`reserve` on: a page of descriptors, then its common buffer

Device buffer: 0x000 scratch, 0x400 the payload (plus the scenario's device offset), 64 bytes clear of its end.

Memory under the buffer and the device's target range hold the complement of the right bytes, so that a byte which was
not moved never looks right; everything else is pseudo-random from the seed.
"""

import random
import zlib
from dataclasses import dataclass
from typing import Any

from rtl.config import ConfigError, SocConfig

from .expect import Setting, complement, earlier
from .model import Scenario, size_bytes

__all__ = [
    "BOUNCE",
    "BUFFER",
    "DEVICE_BUFFER",
    "DEVICE_SCRATCH",
    "FIRST_ROUND",
    "Images",
    "SCRATCH",
    "before_transfer",
    "check_fit",
    "device_needed",
    "fitting",
    "images",
    "make_setting",
    "memory_needed",
    "reserve",
    "scenario_seed",
    "source_address",
    "user_address",
]

SCRATCH = 0x0000
BOUNCE = 0x1000
BUFFER = 0x4000
DEVICE_SCRATCH = 0x000
DEVICE_BUFFER = 0x400
FIRST_ROUND = 0x200  # from there to what the first round of a common buffer delivers (at most 512 bytes)
_PAGE = 4096
_POOL = 0x4000


def _pages(length: int) -> int:
    return -(-length // _PAGE) * _PAGE


def reserve(payload_bytes: int) -> int:
    """Bytes at the start of memory that the driver's pool must leave alone."""
    return BUFFER + 2 * _PAGE + _pages(max(payload_bytes, _PAGE))


def memory_needed(payload_bytes: int) -> int:
    """Bytes of memory that the catalogue needs for a payload."""
    return reserve(payload_bytes) + _POOL


def device_needed(payload_bytes: int) -> int:
    """Bytes of device buffer that the catalogue needs for a payload."""
    return DEVICE_BUFFER + 0x100 + max(payload_bytes, _PAGE)


def fitting(config: SocConfig, payload_bytes: int) -> SocConfig:
    """``config`` with memory and device buffer grown, by powers of two, until the payload fits."""
    memory, device = config.memory.size, config.device.buffer_bytes
    while memory < memory_needed(payload_bytes):
        memory *= 2
    while device < device_needed(payload_bytes):
        device *= 2
    return config.replace(memory__size=memory, device__buffer_bytes=device)


def check_fit(config: SocConfig, payload_bytes: int) -> None:
    """Raises :class:`ConfigError` that says what to set if the payload does not fit."""
    for name, value, needed in (
        ("memory.size", config.memory.size, memory_needed(payload_bytes)),
        ("device.buffer_bytes", config.device.buffer_bytes, device_needed(payload_bytes)),
    ):
        if value < needed:
            power = 1 << (needed - 1).bit_length()
            raise ConfigError(f"{name} must be at least {power} for a payload of {payload_bytes} bytes, not {value}")


def user_address(setting: Setting) -> int:
    """Where the caller's buffer lies: not in the driver's common buffer."""
    common = setting.scenario.mode.startswith("common")
    return setting.config.memory.base + BUFFER if common else setting.address


def source_address(setting: Setting) -> int:
    """Device offset of what a request reads; PIO data that goes out again by DMA comes from elsewhere than it goes to."""
    pager = setting.scenario.options.get("consumer") == "dma"
    return setting.device_address + (FIRST_ROUND if pager else 0)


def before_transfer(setting: Setting) -> bytes:
    """What the CPU stored in the buffer before: other bytes, except where a short transfer will deliver none."""
    return earlier(setting.payload[: setting.delivered]) + setting.payload[setting.delivered :]


def scenario_seed(seed: int, scenario: Any) -> int:
    """A scenario's own seed: the same alone and in the whole catalogue."""
    return zlib.crc32(f"{seed}:{scenario.name}".encode())


def make_setting(scenario: Scenario, config: SocConfig, payload: bytes, *, quick: bool, seed: int) -> Setting:
    """Takes the scenario's bytes out of the payload (repeated if it is too short) and gives them their addresses."""
    size = size_bytes(scenario.size_for(quick), config, len(payload))
    first = scenario_seed(seed, scenario) % (len(payload) - size + 1) if size < len(payload) else 0
    data = (payload[first:] + payload * (size // len(payload) + 1))[:size]
    common = reserve(len(payload)) + _PAGE  # behind the page of descriptors, which is allocated first
    base = config.memory.base + (common if scenario.mode.startswith("common") else BUFFER)
    return Setting(
        scenario=scenario,
        config=config,
        address=base + scenario.offset,
        device_address=DEVICE_BUFFER + scenario.device_offset,
        payload=data,
    )


@dataclass(frozen=True)
class Images:
    """Full contents of memory and device buffer at cycle 0."""

    memory: bytes
    device: bytes


def images(setting: Setting, seed: int) -> Images:
    """The images of a run (see the module's text)."""
    config, payload = setting.config, setting.payload
    noise = random.Random(seed)
    memory = bytearray(noise.randbytes(config.memory.size))
    device = bytearray(noise.randbytes(config.device.buffer_bytes))
    clean_source = setting.write_to_device and setting.scenario.options.get("state") == "cached"
    for address in {setting.address, user_address(setting)}:
        start = address - config.memory.base
        memory[start : start + len(payload)] = payload if clean_source else complement(payload)
    at, source = setting.device_address, source_address(setting)
    device[at : at + len(payload)] = complement(payload)
    if not setting.write_to_device:
        device[source : source + len(payload)] = payload
    if setting.scenario.story == "common_buffer_rounds" and not setting.write_to_device:  # what the first round delivers
        device[at + FIRST_ROUND : at + FIRST_ROUND + len(payload)] = earlier(payload)
    # What primes the chunk FIFO: the complement again, so that a chunk that keeps its earlier bytes never looks right.
    chunk_fill = (complement(payload) * (256 // len(payload) + 1))[:256]
    memory[SCRATCH : SCRATCH + 256] = chunk_fill
    device[DEVICE_SCRATCH : DEVICE_SCRATCH + 256] = chunk_fill
    return Images(bytes(memory), bytes(device))
