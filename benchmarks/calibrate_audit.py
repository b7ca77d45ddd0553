"""Run every instrument of the audit on planted models and write the table of docs/how-the-audit-is-calibrated.md."""

import argparse
from pathlib import Path

from megalith.audit.calibration import Planting, calibrate

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-the-audit-is-calibrated.md"
BEGIN, END = "<!-- table: python -m benchmarks.calibrate_audit -->", "<!-- end of table -->"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = calibrate()
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    wrong = [row for row in rows if not row.agrees]
    print(f"{len(rows)} figures, {len(wrong)} not as planted")
    for row in wrong:
        print(row)


def with_table(page: str, rows: list[Planting]) -> str:
    """Return the page with its table made anew."""
    lines = ["| instrument | planted | figure | must be | is |", "|---|---|---|--:|--:|"]
    lines += [
        f"| `{row.instrument}` | {row.model} | {row.figure} | {_number(row.planted)} | {_number(row.measured)} |"
        for row in rows
    ]
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}"


def _number(value: float) -> str:
    return f"{value + 0.0:.4f}".replace("-0.0000", "0.0000").replace("-", "−")


if __name__ == "__main__":
    main()
