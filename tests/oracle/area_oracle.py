#!/usr/bin/env python3
"""The distance and time laws of the area model a second time, in plain Python.

    area_oracle.py                       checks the golden values of section 10
    area_oracle.py path/to/homeward      compares `homeward plan` with it for every row of the table
"""

import csv
import json
import math
import pathlib
import subprocess
import sys
from statistics import NormalDist

NORMAL = NormalDist()
TABLE = pathlib.Path(__file__).parents[2] / "src/area/lost_person_distances.csv"
CHILD, TOWN, OUTDOORS = (3.946, 1.045), (3.519, 0.5464), (10.56, 1.267)
MOVEMENT = {
    "dementia": ((1.98966, 0.788506), 5.4),
    "child_1_3": (CHILD, 3.6),
    "child_4_6": (CHILD, 5.4),
    "child_7_9": (CHILD, 6.5),
    "child_10_12": (CHILD, 7.2),
    "child_13_15": (CHILD, 7.2),
    "autism": (CHILD, 7.2),
    "intellectual_disability": (CHILD, 5.4),
    "despondent": (TOWN, 7.2),
    "mental_illness": (TOWN, 7.2),
    "substance_intoxication": (TOWN, 7.2),
}


def static_law(quantiles_km):
    core = 0.05
    while quantiles_km[0] <= core:
        core /= 2
    z = [NORMAL.inv_cdf(q) for q in (0.10, 0.25, 0.50, 0.75, 0.95)]
    ln = [math.log(r) for r in (core, *quantiles_km)]

    def cdf(r):
        if r <= core:
            return 0.10 * (r / core) ** 2
        j = max(j for j in range(4) if j == 0 or ln[j] <= math.log(r))
        slope = (z[j + 1] - z[j]) / (ln[j + 1] - ln[j])
        return NORMAL.cdf(z[j] + (math.log(r) - ln[j]) * slope)

    return cdf


def radii(quantiles_km, category, hours, accuracy_m=0.0):
    (scale, shape), speed = MOVEMENT.get(category, (OUTDOORS, 7.2))
    cdf, reach = static_law(quantiles_km), speed * hours / 1.2
    moving = [scale * (-math.log(1 - (j + 0.5) / 64)) ** (1 / shape) for j in range(64)]
    shares = [min(1.0, hours / m) ** 0.5 for m in moving]
    found = []
    for q, k in ((0.25, 0.7585), (0.50, 1.1774), (0.75, 1.6651), (0.95, 2.4477)):
        low, high = 0.0, reach
        for _ in range(60):
            middle = (low + high) / 2
            if sum(cdf(middle / s) for s in shares) / 64 >= q:
                high = middle
            else:
                low = middle
        found.append(math.hypot(high, k * accuracy_m / 1000 / 1.5096))
    return found


def rows():
    with TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["r95_km"]:
                distances = [float(row[f"r{q}_km"]) for q in (25, 50, 75, 95)]
                yield row["category"], row["environment"], distances


def check_golden():
    dementia = next(d for c, e, d in rows() if (c, e) == ("dementia", "urban"))
    cdf = static_law(dementia)
    for r, share in ((0.025, 0.025), (0.1, 0.145580), (1, 0.474425), (8, 0.907190), (50, 0.995734)):
        assert abs(cdf(r) - share) < 1e-5, (r, cdf(r))
    for hours, expected in ((0.5, (0.647, 1.981, 2.25)), (2, (0.967, 2.820, 9)), (24, (1.127, 3.219, 12.553))):
        got = radii(dementia, "dementia", hours)[1:]
        assert all(abs(a - b) < 5.1e-4 for a, b in zip(got, expected)), (hours, got)
    print("golden values hold")


def compare(binary):
    worst, count = 0.0, 0
    for category, environment, distances in rows():
        for hours, accuracy_m in ((0.5, 0), (3, 250), (48, 1000)):
            command = [binary, "plan", "--category", category, "--at=57.1497,-2.0943", "--format=json",
                       "--environment", "default" if environment == "any" else environment,
                       f"--elapsed={hours}h", f"--accuracy={accuracy_m}m"]
            plan = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            expected = radii(distances, category, hours, accuracy_m)
            for name, km in zip(("r25", "r50", "r75", "r95"), expected):
                off = abs(plan["radii_km"][name] - km)
                assert off < 1e-4, (category, environment, hours, name, plan["radii_km"][name], km)
                worst = max(worst, off)
            count += 1
    print(f"{count} plans agree within {worst:.1e} km")


if __name__ == "__main__":
    check_golden()
    if len(sys.argv) > 1:
        compare(sys.argv[1])
