# SPDX-License-Identifier: BSD-2-Clause
"""A run against what its example expects: each difference is named."""

import pytest

from sim.scenarios import DriverScenario, Expect, examples
from sim.userdriver.example import job_of, judge
from sim.userdriver.run import DriverRun


def scenario(variant="broken", **expect):
    module = "sim.scenarios.rules.r24"
    return DriverScenario(
        name=f"rules/R24/{variant}",
        family="rules",
        subject="R24",
        variant=variant,
        module=module,
        style="wdk",
        expect=Expect(**expect),
    )


def finding(rule, severity, root=True):
    return {"rule": rule, "severity": severity, "root": root}


BROKEN = {"roots": {"R24"}, "severity": "corruption seen", "corrupts": True}
SEEN = [finding("R24", "corruption seen"), finding("R25", "corruption possible", root=False)]


def test_a_run_as_expected_passes():
    result = judge(scenario(**BROKEN), DriverRun(name="x", findings=SEEN, corrupted=3, checked=10))
    assert result.passed and result.roots == ["R24"] and result.happened == "3 of 10 B corrupted"
    assert judge(scenario("fixed"), DriverRun(name="x", checked=10)).happened == "10 B intact"


@pytest.mark.parametrize(
    "run, message",
    [
        ({"findings": [], "corrupted": 3}, "did not report R24"),
        ({"findings": [*SEEN, finding("R09", "warning")], "corrupted": 3}, "reported R09, which was not expected"),
        (
            {"findings": [finding("R24", "corruption possible")], "corrupted": 3},
            "worst root finding is 'corruption possible', expected 'corruption seen'",
        ),
        ({"findings": SEEN, "corrupted": 0}, "bytes must go wrong, but: nothing could be compared"),
        (
            {"findings": SEEN, "corrupted": 1, "ending": "raised", "problem": "E"},
            "the driver raised (E), expected returned",
        ),
    ],
)
def test_every_difference_is_named(run, message):
    result = judge(scenario(**BROKEN), DriverRun(name="x", **run))
    assert not result.passed and any(message in text for text in result.unexpected)


def test_a_consequence_that_must_be_there():
    run = DriverRun(name="x", findings=SEEN, corrupted=1)
    assert judge(scenario(**BROKEN, consequences={"R25"}), run).passed
    result = judge(scenario(**BROKEN, consequences={"R24", "R03"}), run)  # R24 is there, but as a root
    assert result.unexpected == ["the flush checker did not report R03, R24 as a consequence"]


def test_a_corrected_driver_gives_everything_back():
    result = judge(scenario("fixed"), DriverRun(name="x", held=["DMA adapter 1"], notes=["no await"]))
    assert result.unexpected == ["the corrected driver still holds DMA adapter 1", "no await"]
    assert judge(scenario(**BROKEN), DriverRun(name="x", findings=SEEN, corrupted=1, held=["DMA adapter 1"])).passed


def test_bytes_that_must_not_go_wrong():
    result = judge(scenario("fixed"), DriverRun(name="x", corrupted=1, checked=2, moved=["one"]))
    assert result.unexpected == ["bytes must not go wrong, but: one"]
    assert judge(scenario("fixed", corrupts=None), DriverRun(name="x", corrupted=1)).passed


def test_hardware_and_refusals_fail_a_run():
    assert judge(scenario("fixed"), DriverRun(name="x", hardware=["line"])).verdict == "HARDWARE"
    assert judge(scenario("fixed"), DriverRun(name="x", refused="no driver")).verdict == "ERROR"


def test_a_job_has_the_example_s_surroundings():
    example = examples()["rules/R24/broken-coherent"]
    job = job_of(example, seed=3, keep="folder")
    assert job.target == "sim.scenarios.rules.r24:broken" and job.keep == "folder"
    assert job.seed == job_of(example, seed=3).seed != job_of(example, seed=4).seed
    assert job.timing == example.expect.timing.to_dict() and example.platform == "coherent"
