# SPDX-License-Identifier: BSD-2-Clause
"""The catalogue is complete by data: what is not there has its reason."""

import itertools

import pytest

from rtl.config import SocConfig
from sim.explain import RULES, explain
from sim.scenarios import (
    MATRIX,
    NOT_APPLICABLE,
    Expect,
    Expectation,
    UnknownScenario,
    catalogue,
    everything,
    examples,
    not_applicable,
    select,
)
from sim.scenarios.examples import source_of, story_of
from sim.scenarios.layout import device_needed, fitting, images, make_setting, memory_needed, scenario_seed, user_address
from sim.scenarios.model import COHERENT, MODES, NON_COHERENT, PLATFORMS, SIZES, size_bytes
from sim.scenarios.outcome import CELLS, DISCIPLINES, STATES
from sim.scenarios.stories import STORIES

PAYLOAD = bytes((11 * n + n // 256) & 0xFF for n in range(3000))
CONFIG = SocConfig()


def present():
    return {(s.row, s.mode, s.discipline, s.platform) for s in catalogue().values()}


def test_every_row_mode_discipline_platform_is_there_or_has_a_reason():
    missing = [
        key
        for row, disciplines in MATRIX.items()
        for key in itertools.product([row], MODES, disciplines, PLATFORMS)
        if key not in present() and not not_applicable(*key)
    ]
    assert not missing


def test_no_reason_stands_for_a_scenario_that_exists():
    contradicting = [key for key in present() if key[0] in MATRIX and not_applicable(*key)]
    # a pattern may cover more than it must, but not what is there
    assert not [key for key in contradicting if key[0] in ("dma-write", "dma-read", "speculation", "common-buffer", "pio")]


def test_every_reason_is_needed_and_given():
    unused = [
        patterns
        for patterns, reason in NOT_APPLICABLE.items()
        if not reason
        or not any(
            not_applicable(*key) == reason
            for row, disciplines in MATRIX.items()
            for key in itertools.product([row], MODES, disciplines, PLATFORMS)
        )
    ]
    assert not unused


def test_outcome_table_has_every_cell_of_the_rules_page():
    """7 disciplines by 3 states; the dirty state by when it is written back, where no flush before made that moot."""
    assert len(DISCIPLINES) == 7
    for discipline in DISCIPLINES:
        for state in ("cached-clean", "dirty-never-evicted", "prefetched-before", "prefetched-in-flight"):
            assert (discipline, state) in CELLS
    for discipline in ("none", "invalidate-after", "clean-invalidate-after"):
        for state in ("dirty-evicted-before", "dirty-evicted-after"):
            assert (discipline, state) in CELLS
    assert {state for _, state in CELLS} == set(STATES)
    for (discipline, state), mode, platform in itertools.product(CELLS, ("system", "bus-master"), PLATFORMS):
        assert f"outcome/{mode}/{discipline}/{platform}/{state}" in catalogue()


def test_names_follow_their_parts():
    for name, scenario in catalogue().items():
        assert name.split("/")[:4] == [scenario.row, scenario.mode, scenario.discipline, scenario.platform]
        assert scenario.story in STORIES


@pytest.mark.parametrize("direction, row", [("read", "dma-read"), ("write", "dma-write")])
def test_sizes_of_the_issue_are_there(direction, row):
    for mode in ("system", "bus-master"):
        for size in ("1", "chunk-1", "chunk", "chunk+1", "line-1", "line+1", "page", "whole"):
            for discipline, group in (("all-flushes", row), ("no-adapter-flush", "remainder"), ("no-preflush", row)):
                sizes = {s.size for s in catalogue().values() if (s.row, s.mode, s.discipline) == (group, mode, discipline)}
                if size == "whole":
                    sizes = {s.size for s in catalogue().values() if (s.row, s.mode) == (row, mode)}
                assert size in sizes, (mode, size, discipline)


def test_offsets_within_a_line_vary():
    assert len({scenario.offset for scenario in catalogue().values()}) >= 4


def test_coherent_corrupts_only_by_the_remainder_or_what_the_driver_asked_for():
    for scenario in catalogue().values():
        if scenario.platform != COHERENT or not scenario.corruption:
            continue
        by_address = scenario.options.get("pre") == "invalidate"
        discarded = scenario.options.get("fault") == "time-out"  # by the controller, which had more than the remainder left
        assert by_address or discarded or all("remainder" in c.where for c in scenario.corruption), scenario.name


def test_every_corruption_names_the_missing_call_and_a_page_rule():
    for scenario in catalogue().values():
        if scenario.corruption:
            assert scenario.missing, scenario.name
        assert scenario.source and set(scenario.source) <= set(RULES), scenario.name


def test_explains_every_scenario():
    for scenario in catalogue().values():
        text = explain(scenario)
        assert scenario.name in text and "1. " in text and f"{scenario.source[0]}: " in text


def test_left_out_preflush_is_predicted_to_harm_on_the_non_coherent_platform_only():
    for mode in ("system", "bus-master", "common-cached"):
        for row in ("dma-read", "dma-write"):
            assert catalogue()[f"{row}/{mode}/no-preflush/{NON_COHERENT}"].corruption
            assert not catalogue()[f"{row}/{mode}/no-preflush/{COHERENT}"].corruption


@pytest.mark.parametrize("size, expected", [("1", 1), ("chunk-1", 15), ("chunk+1", 17), ("line+1", 33), ("whole", 9)])
def test_sizes(size, expected):
    assert size_bytes(size, CONFIG, 9) == expected


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"size must be one of 1, chunk-1, .* not 'big'"):
        size_bytes("big", CONFIG, 9)
    assert len(SIZES) == len(set(SIZES))


# -- expectations ------------------------------------------------------------------------------------------------------


def setting_of(name, **options):
    return make_setting(catalogue()[name], CONFIG, PAYLOAD, quick=False, seed=1)


@pytest.mark.parametrize(
    "variant, ranges",
    [
        ("chunk", []),
        ("chunk+1", [(16, 17)]),
        ("1", [(0, 1)]),
        ("1@5", [(0, 1)]),
        ("chunk-1@1", [(0, 15)]),  # ends on a chunk, but its first byte is missing
        ("line+1@13", [(19, 33)]),
        ("page", []),
    ],
)
def test_remainder_is_the_last_chunk_that_is_not_whole(variant, ranges):
    setting = setting_of(f"remainder/system/no-adapter-flush/non-coherent/read/{variant}")
    assert [(r.start, r.end) for r in Expectation.of(setting).ranges] == ranges


def test_judge_wants_exactly_the_predicted_bytes():
    setting = setting_of("dma-read/system/no-preflush/non-coherent")
    expectation = Expectation.of(setting)
    assert expectation.judge(expectation.predicted) == ""
    assert "expected" in expectation.judge(setting.payload)
    one_more = bytearray(expectation.predicted)
    one_more[-1] ^= 1
    assert f"byte +{len(one_more) - 1:#x}" in expectation.judge(bytes(one_more))
    assert "bytes arrived" in expectation.judge(b"")


def test_judge_of_an_inexact_expectation_wants_some_corruption_and_only_the_predicted_values():
    setting = setting_of("dma-write/system/no-preflush/non-coherent/whole")
    expectation = Expectation.of(setting)
    assert not expectation.exact
    assert "nothing is corrupted" in expectation.judge(setting.payload)
    some = bytearray(setting.payload)
    some[100] ^= 0xFF
    assert expectation.judge(bytes(some)) == ""
    some[100] ^= 1
    assert "expected" in expectation.judge(bytes(some))


def test_no_two_values_of_a_byte_are_equal():
    for scenario in catalogue().values():
        setting = make_setting(scenario, CONFIG, PAYLOAD, quick=True, seed=1)
        expectation = Expectation.of(setting)
        for item in expectation.ranges:
            for n in range(item.start, item.end):
                assert expectation.predicted[n] != setting.payload[n]


# -- images and addresses ----------------------------------------------------------------------------------------------


def test_images_hold_the_complement_wherever_the_right_bytes_will_be():
    for name in ("dma-read/system/all-flushes/non-coherent", "dma-write/common-cached/all-flushes/non-coherent"):
        setting = setting_of(name)
        filled = images(setting, 5)
        wrong = bytes(b ^ 0xFF for b in setting.payload)
        for address in (setting.address, user_address(setting)):
            start = address - CONFIG.memory.base
            assert filled.memory[start : start + setting.size] == wrong
        target = filled.device[setting.device_address : setting.device_address + setting.size]
        assert target == (wrong if setting.write_to_device else setting.payload)
        assert filled.memory[:64] != filled.memory[64:128] or setting.size <= 64
        assert images(setting, 5) == filled and images(setting, 6) != filled


def test_seed_is_the_scenario_s_own():
    first, second, *_ = catalogue().values()
    assert scenario_seed(1, first) != scenario_seed(1, second)
    assert scenario_seed(1, first) != scenario_seed(2, first)
    assert scenario_seed(1, first) == scenario_seed(1, first)


def test_payload_decides_how_large_memory_and_device_must_be():
    assert fitting(CONFIG, 16 * 1024) == CONFIG
    large = fitting(CONFIG, 1 << 20)
    assert large.memory.size >= memory_needed(1 << 20) and large.device.buffer_bytes >= device_needed(1 << 20)
    small = make_setting(catalogue()["dma-read/system/all-flushes/coherent/page"], CONFIG, b"x", quick=False, seed=1)
    assert small.payload == b"x" * 4096


# -- names on the command line -----------------------------------------------------------------------------------------


def test_select_takes_names_prefixes_and_patterns():
    assert select([]) == list(everything().values())
    one = "dma-read/system/no-preflush/coherent"
    assert [s.name for s in select([f"{one}/chunk"])] == [f"{one}/chunk"]
    assert next(s.name for s in select([one])) == one
    assert {s.row for s in select(["pio/"])} == {"pio"}
    assert {s.discipline for s in select(["*/no-flushes/*"])} == {"no-flushes"}
    twice = select(["pio", "pio/pio/no-ioflush"])
    assert twice == select(["pio"])


def test_select_refuses_what_matches_nothing_and_names_the_nearest():
    with pytest.raises(UnknownScenario, match="not 'dma-read/system/no-preflusch/coherent'") as error:
        select(["dma-read/system/no-preflusch/coherent"])
    assert "dma-read/system/no-preflush/coherent" in str(error.value)


# -- examples ------------------------------------------------------------------------------------------------------------


def test_examples_have_a_story_a_mechanism_and_a_fix():
    assert {"rules/R24/broken", "rules/R24/fixed", "rules/R24/lucky"} <= set(examples())
    for scenario in examples().values():
        title, *story = story_of(scenario)
        heads = [paragraph.partition(":")[0] for paragraph in story]
        assert title.endswith(".") and "Mechanism" in heads and "Fix" in heads, scenario.name
        assert source_of(scenario, "broken") and source_of(scenario, "fixed"), scenario.name


def test_examples_say_what_their_names_say():
    for scenario in examples().values():
        expect = scenario.expect
        # R03 is a consequence only: its example has another root.
        if scenario.family == "rules" and scenario.subject != "R03" and scenario.variant.startswith(("broken", "lucky")):
            assert expect.roots == {scenario.subject}, scenario.name
        if scenario.variant.startswith("fixed"):
            assert not expect.roots and expect.corrupts is not True and expect.ending == "returned", scenario.name
        if scenario.variant.startswith("lucky"):
            assert expect.roots and not expect.corrupts, scenario.name
        assert set(scenario.source) <= set(RULES) | {"S10"}, scenario.name
        text = explain(scenario)
        assert scenario.name in text and "Mechanism" in text and " | " in text, scenario.name
        assert "--- broken" in explain(scenario, width=80)


def test_explain_says_what_is_unusual_about_a_run():
    told = {
        name: explain(examples()[f"rules/{name}"]) for name in ("R12/broken", "R12/lucky", "R20/broken", "R20/fixed", "R23/fixed")
    }
    assert "the HAL is told: line_bytes=64, line_loop=True" in told["R12/broken"] and "line_bytes=64" in told["R12/lucky"]
    assert "non-coherent platform" in told["R20/broken"]
    assert "faults of the hardware: maintenance_point_of_unification" in told["R20/broken"]
    assert "faults of the hardware" not in told["R20/fixed"]
    assert "the CPU fetches nothing ahead" in told["R23/fixed"] and "nothing ahead" not in told["R20/fixed"]


def test_expectations_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="severity must be given exactly where there are roots"):
        Expect(roots={"R01"})
    with pytest.raises(ValueError, match="severity must be one of"):
        Expect(roots={"R01"}, severity="bad")
    with pytest.raises(ValueError, match="ending must be one of"):
        Expect(ending="explodes")
    with pytest.raises(ValueError, match=r"faults must be of maintenance_ignores_tail, .*, not rust"):
        Expect(faults={"rust"})
