# SPDX-License-Identifier: BSD-2-Clause
import dataclasses

import pytest

from rtl.config import (
    CSR_BASE,
    CacheConfig,
    ConfigError,
    DeviceConfig,
    DmaConfig,
    FaultConfig,
    MemoryConfig,
    SocConfig,
)


def test_defaults_are_legal_and_derive_their_widths():
    config = SocConfig()
    assert (config.data_bytes, config.coherent) == (8, False)
    assert (config.dcache.size_bytes, config.dcache.lines, config.dcache.offset_bits, config.dcache.index_bits) == (
        4096,
        128,
        5,
        6,
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"data_width": 48}, "data_width must be one of 32, 64, 128, not 48"),
        ({"data_width": True}, "data_width must be one of 32, 64, 128, not True"),
        ({"coherency": "mesi"}, "coherency must be one of 'none', 'snoop', not 'mesi'"),
        ({"dcache": 5}, "dcache must be a CacheConfig, not 5"),
        ({"dcache": CacheConfig(line_bytes=48)}, "dcache.line_bytes must be a power of two from 16 to 128, not 48"),
        ({"dcache": CacheConfig(ways=0)}, "dcache.ways must be a power of two from 1 to 8, not 0"),
        ({"icache": CacheConfig(sets=3)}, "icache.sets must be a power of two from 2 to 4096, not 3"),
        ({"dcache": CacheConfig(replacement="fifo")}, "dcache.replacement must be one of 'plru', 'lru', 'random', not 'fifo'"),
        ({"dcache": CacheConfig(prefetcher=1)}, "dcache.prefetcher must be true or false, not 1"),
        ({"dcache": CacheConfig(parity=1)}, "dcache.parity must be true or false, not 1"),
        ({"icache": CacheConfig(parity=True)}, "icache.parity must be false: only the D-cache has parity, not True"),
        ({"dcache": CacheConfig(partial_lines="keep")}, "dcache.partial_lines must be one of 'drop', 'clean', not 'keep'"),
        (
            {"icache": CacheConfig(partial_lines="clean")},
            "icache.partial_lines must be 'drop': its lines are never dirty, not 'clean'",
        ),
        ({"dcache": CacheConfig(write_policy="around")}, "dcache.write_policy must be one of 'back', 'through', not 'around'"),
        (
            {"icache": CacheConfig(write_policy="through")},
            "icache.write_policy must be 'back': nothing is stored in it, not 'through'",
        ),
        (
            {"icache": CacheConfig(line_bytes=64)},
            "icache.line_bytes must equal dcache.line_bytes (32), not 64",
        ),
        (
            {"data_width": 128, "dcache": CacheConfig(line_bytes=16), "icache": CacheConfig(line_bytes=16)},
            "dcache.line_bytes must be at least two beats of data_width (32 bytes), not 16",
        ),
        ({"dma": DmaConfig(chunk_bytes=64)}, "dma.chunk_bytes must be at most dcache.line_bytes (32), not 64"),
        (
            {"data_width": 128, "dma": DmaConfig(chunk_bytes=8)},
            "dma.chunk_bytes must be at least one beat of data_width (16 bytes), not 8",
        ),
        ({"dma": DmaConfig(system_channels=0)}, "dma.system_channels must be an integer from 1 to 4, not 0"),
        ({"device": DeviceConfig(buffer_bytes=100)}, "device.buffer_bytes must be a power of two from 256 to 4194304, not 100"),
        ({"memory": MemoryConfig(size=5000)}, "memory.size must be a power of two from 4096 to 67108864, not 5000"),
        ({"memory": MemoryConfig(row_miss=2)}, "memory.row_miss must be an integer from 3 to 255, not 2"),
        (
            {"memory": MemoryConfig(refresh_interval=10)},
            "memory.refresh_interval must be 0 or at least 4 times memory.refresh_cycles (7), not 10",
        ),
        ({"memory": MemoryConfig(base=0x8000_1000)}, "memory.base must be a multiple of memory.size (0x40000), not 0x80001000"),
        ({"faults": FaultConfig(maintenance_ignores_tail=1)}, "faults.maintenance_ignores_tail must be true or false, not 1"),
    ],
)
def test_a_bad_value_is_named_with_its_rule(values, text):
    with pytest.raises(ConfigError) as caught:
        SocConfig(**values)
    assert str(caught.value) == text


def test_the_windows_must_not_overlap():
    with pytest.raises(ConfigError, match="clear of the CSR window"):
        SocConfig(memory=MemoryConfig(base=CSR_BASE, size=4096))


def test_replace_reaches_into_tables_and_the_digest_follows_every_value():
    config = SocConfig()
    changed = config.replace(dma__chunk_bytes=8, dma__fifo_chunks=8, coherency="snoop")
    assert (changed.dma.chunk_bytes, changed.dma.fifo_chunks, changed.coherent) == (8, 8, True)
    digests = {config.digest, changed.digest, config.replace(memory__row_hit=2).digest, config.replace(dcache__ways=4).digest}
    assert len(digests) == 4
    assert SocConfig().digest == config.digest


def test_round_trip_through_dict_and_toml(tmp_path):
    config = SocConfig(coherency="snoop").replace(dma__chunk_bytes=32, memory__size=1 << 20)
    assert SocConfig.from_dict(config.to_dict()) == config
    file = tmp_path / "soc.toml"
    file.write_text('coherency = "snoop"\n[dma]\nchunk_bytes = 32\n[memory]\nsize = 0x100000\n')
    assert SocConfig.from_toml(file) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 3\n", "speed is not a configuration key; the keys are coherency, data_width"),
        ("[dma]\nchunk = 8\n", "dma.chunk is not a configuration key; the keys of dma are chunk_bytes"),
        ("dma = 3\n", "dma must be a table, not 3"),
        ("[dma\n", "must be TOML"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    file = tmp_path / "soc.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        SocConfig.from_toml(file)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml' must be readable: No such file"):
        SocConfig.from_toml(tmp_path / "absent.toml")


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SocConfig().data_width = 32
