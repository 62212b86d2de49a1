#!/usr/bin/env python3
"""Judges one run of the Tcl suite.

    compare.py RESULTS BASELINE EXPECTED [UNIT...] [--fast]

RESULTS is what tcl_suite.py saved, BASELINE what passes on redis-server itself: a test that passes
there and did not run here (its unit was aborted, the server was gone) counts as failed. EXPECTED
lists the tests that may fail, `unit<TAB>test<TAB>reason`; empty lines and lines with `#` are
comments. A reason that begins with `sometimes:` is of a test that passes now and then. Without a
UNIT all of the baseline's are wanted.

Exit code 1 when a test fails that is not listed, when a listed one passes or does not exist, or
when a line is malformed.
"""

import argparse
import json
import sys
from collections import Counter

SLOW = "slow"
SOMETIMES = "sometimes:"


def read_expected(path):
    """(unit, test) → reason, and what is wrong with the file's lines."""
    expected, faults = {}, []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) != 3 or not all(fields):
                faults.append(f"{path}:{number}: not unit<TAB>test<TAB>reason")
            elif (fields[0], fields[1]) in expected:
                faults.append(f"{path}:{number}: listed twice: {fields[0]}: {fields[1]}")
            else:
                expected[fields[0], fields[1]] = fields[2]
    return expected, faults


def judge_unit(run, wanted):
    """Names that passed each time they ran, and names → why they did not."""
    passed = Counter(run.get("pass", {}))
    failed = {}
    for status, name, detail in run.get("fail", []):
        failed.setdefault(name, f"{status}: {detail}")
    for name, count in wanted.items():
        if passed[name] < count:
            ran = f"passed {passed[name]} of {count} times"
            failed.setdefault(name, f"missing: {ran}")
    return set(passed) - set(failed), failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("baseline")
    parser.add_argument("expected")
    parser.add_argument("units", nargs="*")
    parser.add_argument("--fast", action="store_true")
    args = parser.parse_intermixed_args()
    with open(args.results, encoding="utf-8") as file:
        results = json.load(file)["units"]
    with open(args.baseline, encoding="utf-8") as file:
        baseline = json.load(file)["units"]
    expected, faults = read_expected(args.expected)
    units = args.units or sorted({*baseline, *results})

    complaints = list(faults)
    ran_and_passed, listed_failures = 0, 0
    for unit in units:
        known = baseline.get(unit, {"pass": {}, "tags": {}})
        wanted = {
            name: count
            for name, count in known["pass"].items()
            if not (args.fast and SLOW in known["tags"].get(name, "").split(","))
        }
        passed, failed = judge_unit(results.get(unit, {}), wanted)
        ran_and_passed += len(passed)
        for name, why in sorted(failed.items()):
            if (unit, name) in expected:
                listed_failures += 1
            else:
                complaints.append(f"fails, and is not listed: {unit}: {name}\n    {why[:300]}")
        for listed_unit, name in sorted(expected):
            if listed_unit != unit or name in failed:
                continue
            if expected[listed_unit, name].startswith(SOMETIMES):
                continue
            if name in passed:
                complaints.append(f"passes now; delete its line: {unit}: {name}")
            elif not args.fast:
                complaints.append(f"no such test; delete its line: {unit}: {name}")
    for listed_unit, name in sorted(expected):
        if listed_unit not in units:
            complaints.append(f"no such unit in this mode: {listed_unit}: {name}")

    for complaint in complaints:
        print(complaint)
    print(f"conformance: {ran_and_passed} passed, {listed_failures} fail as listed, "
          f"{len(complaints)} failed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
