#!/usr/bin/env python3
"""Says how many cases of catalogue.json a run of the tests kept.

    count.py LOG        LOG is what nextest printed

A case is kept by its recipe (then by the test that runs all recipes), or by the tests that name it in a line
`// CASE ID`. It passed where all of those passed. One that says nothing about this broker has its reason with it.
"""
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
RECIPES = "every_forged_proof_is_treated_as_catalogued"
FUNCTION = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:const )?(?:async )?fn ([a-z0-9_]+)")
RESULT = re.compile(r"^\s*(PASS|FAIL|TIMEOUT|SIGNAL|ABORT|SIG[A-Z]+|LEAK)\s.*?([a-z0-9_]+)\s*$")


def named():
    """{case: the functions that name it}."""
    cases = {}
    for folder in ("broker", "sdk", "tests"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            if "target" in path.relative_to(ROOT).parts:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            inside = None
            for at, line in enumerate(lines):
                if function := FUNCTION.match(line):
                    inside = function[1]
                text = line.strip()
                if not text.startswith("// CASE "):
                    continue
                behind = (other for other in lines[at + 1:] if not other.strip().startswith(("//", "#[")))
                function = FUNCTION.match(next(behind, ""))
                for case in re.split(r"[ ,]+", text.removeprefix("// CASE ")):
                    cases.setdefault(case, set()).add(function[1] if function else inside)
    return cases


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = {}
    for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace").splitlines():
        if result := RESULT.match(line):
            results.setdefault(result[2], set()).add(result[1] in ("PASS", "LEAK"))
    catalogue = json.loads((HERE / "catalogue.json").read_text(encoding="utf-8"))
    by_name = named()
    passed, failed, unseen, apart = 0, [], [], []
    for case in catalogue:
        if why := case.get("not_applicable"):
            apart.append(f"{case['id']}: {why}")
            continue
        functions = {RECIPES} if case.get("recipe") else by_name.get(case["id"], set())
        seen = [results[function] for function in functions if function in results]
        if not seen:
            unseen.append(case["id"])
        elif any(False in outcome for outcome in seen):
            failed.append(case["id"])
        else:
            passed += 1
    print(f"Cases of the catalogue: {len(catalogue)}; {passed + len(failed)} run, {passed} of them passed; "
          f"{len(apart)} not applicable; {len(unseen)} not run")
    for what, ids in (("failed", failed), ("not run", unseen)):
        if ids:
            print(f"  {what}: {' '.join(ids)}")
    for line in apart:
        print(f"  not applicable: {line}")


if __name__ == "__main__":
    main()
