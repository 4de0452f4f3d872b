# SPDX-License-Identifier: BSD-2-Clause
import pytest

from rtl.axi.bus import AXI4LiteSignature, AXI4Signature, AXIStreamSignature


def test_axi4_payload_widths_follow_the_parameters():
    bus = AXI4Signature(data_width=128, addr_width=40, id_width=3, user_width=5).create()
    assert len(bus.aw.payload.addr) == 40
    assert len(bus.ar.payload.user) == 5
    assert (len(bus.w.payload.data), len(bus.w.payload.strb)) == (128, 16)
    assert (len(bus.b.payload.id), len(bus.r.payload.id)) == (3, 3)


def test_user_is_absent_when_its_width_is_zero():
    assert not hasattr(AXI4Signature().create().ar.payload, "user")
    assert not hasattr(AXI4LiteSignature().create().ar.payload, "user")


def test_directions_are_the_managers():
    members = AXI4Signature().members
    assert [members[name].flow.name for name in ("aw", "w", "ar", "b", "r")] == ["Out", "Out", "Out", "In", "In"]


def test_equality_is_by_parameters():
    assert AXI4Signature(id_width=2) == AXI4Signature(id_width=2)
    assert AXI4Signature(id_width=2) != AXI4Signature(id_width=3)
    assert AXI4LiteSignature() != AXI4Signature(data_width=32)
    assert repr(AXIStreamSignature(user_width=32)) == "AXIStreamSignature(data_width=64, user_width=32)"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AXI4Signature(data_width=16), "AXI4 data_width must be one of 32, 64, 128, not 16"),
        (lambda: AXI4Signature(id_width=17), "AXI4 id_width must be an integer from 0 to 16, not 17"),
        (lambda: AXI4Signature(addr_width="x"), "AXI4 addr_width must be an integer from 1 to 64, not 'x'"),
        (lambda: AXI4LiteSignature(data_width=128), "AXI4-Lite data_width must be one of 32, 64, not 128"),
        (lambda: AXIStreamSignature(user_width=65), "AXI-Stream user_width must be an integer from 0 to 64, not 65"),
    ],
)
def test_a_bad_width_is_named_with_its_rule(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
