"""Every suite against every version of NVIDIA's bindings; see README.md."""

import functools
from pathlib import Path

import pytest

from tests.contract.bindings import VERSIONS, Bindings
from tests.contract.child import SUITES, require, run_suites

outcome_of = functools.cache(run_suites)
"""One child for each version: bindings of two versions cannot live in one process."""


def suite_name(path: Path) -> str:
    return str(path.relative_to(SUITES))


@pytest.mark.parametrize("suite", sorted(SUITES.rglob("test_*.py")), ids=suite_name)
@pytest.mark.parametrize("bindings", VERSIONS, ids=lambda bindings: bindings.version)
def test_suite(bindings: Bindings, suite: Path, subtests: pytest.Subtests) -> None:
    require(bindings)
    outcome = outcome_of(bindings)
    results = [result for result in outcome.results if result.suite == suite_name(suite)]
    assert results, f"no test of {suite} ran (exit code {outcome.code}):\n{outcome.output}"
    assert outcome.code in (0, 1), f"the tests did not come to their end (exit code {outcome.code}):\n{outcome.output}"
    for result in results:
        with subtests.test(f"TensorRT {bindings.version}: {result.suite}::{result.test}"):
            if result.outcome == "skipped":
                pytest.skip(result.text)
            if result.outcome != "passed":
                pytest.fail(result.text, pytrace=False)
