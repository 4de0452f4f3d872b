# SPDX-License-Identifier: BSD-2-Clause
"""Results that must be looked at: what counts as looking."""

import pytest

from driver.checked import CheckedInt, CheckedStatus, Null, NullChecked, look
from driver.errors import NullError, check_integer
from driver.trace import Trace
from driver.wdk.irp import NTSTATUS, nt_success


def checks(trace):
    return [
        (r["args"]["call"], r["args"]["what"]) for r in trace.records if r["phase"] == "begin" and r["name"] == "ResultChecked"
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda n: n < 10,
        lambda n: 10 != n,
        lambda n: min(n, 4),
        lambda n: 100 - n,
        lambda n: n + 1,
        lambda n: divmod(n, 4),
        bool,
        lambda n: sum([n]),
    ],
)
def test_a_length_is_looked_at(use):
    trace = Trace()
    length = CheckedInt(64, trace, 7)
    use(length)
    use(length)
    assert checks(trace) == [(7, "length")]


def test_what_the_library_does_is_not_looking():
    trace = Trace()
    length = CheckedInt(64, trace, 7)
    check_integer("length", length, 1, 100)
    assert {length: 1} and f"{length}" == "64" and [0] * 65
    assert checks(trace) == []
    assert isinstance(length, int) and int(length) == 64 and checks(trace) == []


def test_starting_the_transfer_with_the_length_is_looking():
    trace = Trace()
    one, two = CheckedInt(64, trace, 7), CheckedInt(32, trace, 8)
    trace.event("FlushAdapterBuffers", length=two, ranges=[[0, two]])
    trace.event("StartTransfer", ranges=[[0x8000_0000, one]])
    assert checks(trace) == [(7, "length")]


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s == NTSTATUS.STATUS_SUCCESS,
        lambda s: NTSTATUS.STATUS_SUCCESS != s,
        lambda s: NTSTATUS.STATUS_SUCCESS == s,
        lambda s: s in (NTSTATUS.STATUS_SUCCESS, NTSTATUS.STATUS_PENDING),
        nt_success,
        lambda s: s < 0,
        lambda s: not s,
    ],
)
def test_a_status_is_looked_at(use):
    trace = Trace()
    status = CheckedStatus(NTSTATUS.STATUS_INSUFFICIENT_RESOURCES, trace, 3)
    assert status.name == "STATUS_INSUFFICIENT_RESOURCES" and f"{status:#x}" == "0xc000009a"
    assert checks(trace) == []
    use(status)
    assert checks(trace) == [(3, "status")]


def test_statuses_compare_as_before():
    trace = Trace()
    good, bad = CheckedStatus(NTSTATUS.STATUS_SUCCESS, trace, 1), CheckedStatus(NTSTATUS.STATUS_UNSUCCESSFUL, trace, 2)
    assert good == NTSTATUS.STATUS_SUCCESS and not good and bad != NTSTATUS.STATUS_SUCCESS
    assert nt_success(good) and not nt_success(bad) and NTSTATUS(int(bad)) is NTSTATUS.STATUS_UNSUCCESSFUL
    assert NTSTATUS.STATUS_PENDING == 0x103 and NTSTATUS.STATUS_PENDING != "x" and len({NTSTATUS.STATUS_PENDING, 0x103}) == 1


@pytest.mark.parametrize("test", [bool, lambda p: not p, lambda p: p == None, lambda p: p != None])  # noqa: E711
def test_a_pointer_is_tested_for_null(test):
    trace = Trace()

    class Thing(NullChecked):
        value = 5

    thing, null = Thing(), Null(trace, 2, "AllocateCommonBuffer")
    assert thing and not checks(trace)  # nothing was promised yet
    thing.must_be_checked(trace, 1)
    assert thing.value == 5 and thing in {thing} and checks(trace) == []
    test(thing)
    test(null)
    assert checks(trace) == [(1, "null"), (2, "null")]
    assert bool(thing) and thing != None and not null and null == None and null == 0  # noqa: E711


def test_a_null_that_is_used_says_so():
    trace = Trace()
    null = Null(trace, 2, "AllocateCommonBuffer")
    with pytest.raises(NullError, match=r"the result of AllocateCommonBuffer must be tested for NULL before \.write is used"):
        null.write(0, b"")
    address, logical = null
    assert not address and not logical
    with pytest.raises(NullError, match="must be tested for NULL before it is used as an address: it is NULL"):
        hex(null)
    assert repr(null) == "<NULL from AllocateCommonBuffer>"


def test_a_function_can_look_for_the_driver():
    trace = Trace()
    assert look(CheckedInt(0, trace, 4, "null")) == 0 and look(5) == 5
    assert checks(trace) == [(4, "null")]
