#!/usr/bin/env python3
"""The area model a second time, in plain Python and without its methods.

    area_oracle.py                       checks the model's golden values
    area_oracle.py path/to/homeward      compares `homeward plan` with it: radii for every row of the
                                         table, sightings, and cells against points drawn from the law
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

LAT, LON, EARTH_KM = 57.1497, -2.0943, 6371.0088
RAD_LAT = math.radians(LAT)
MISPER = ((0.2, 0.3), (0.3, 0.5), (0.4, 1), (0.5, 1.2), (0.6, 2), (0.7, 2.9), (0.8, 5), (0.9, 9.5))
GRAMPIAN = ((0.4, 0.3), (0.5, 0.7), (0.6, 0.9), (0.7, 1.2), (0.8, 2), (0.9, 3.7), (0.95, 5.8), (0.99, 12))


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


def time_shares(category, since, now):
    """How much of their distance people have covered since they were seen, still walking."""
    (a, b), _ = MOVEMENT.get(category, (OUTDOORS, 7.2))
    moving = [a * ((since / a) ** b - math.log(1 - (j + 0.5) / 64)) ** (1 / b) for j in range(64)]
    return [((min(now, m) - since) / m) ** 0.5 for m in moving]


def reach_km(category, hours):
    return MOVEMENT.get(category, (OUTDOORS, 7.2))[1] * hours / 1.2


def inverse(cdf, q, high):
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if cdf(middle) >= q else (middle, high)
    return high


def radii(quantiles_km, category, hours, accuracy_m=0.0, since=0.0):
    cdf, shares = static_law(quantiles_km), time_shares(category, since, hours)
    found = []
    for q, k in ((0.25, 0.7585), (0.50, 1.1774), (0.75, 1.6651), (0.95, 2.4477)):
        r = inverse(lambda r: sum(cdf(r / s) for s in shares) / 64, q, reach_km(category, hours - since))
        found.append(math.hypot(r, k * accuracy_m / 1000 / 1.5096))
    return found


def density(cdf, r, step=1e-4):
    """Per km2 at r, by the slope of the law."""
    inner, outer = r * (1 - step), r * (1 + step)
    return (cdf(outer) - cdf(inner)) / (math.pi * (outer**2 - inner**2))


def sighting_weight(credibility, true_density, r95):
    truly = credibility * true_density
    return truly / (truly + (1 - credibility) / (math.pi * r95**2))


def koopman(cells, budget):
    """By giving the budget away in small portions, each to whom it is worth most."""
    people, portions = [0.0] * len(cells), 20000
    for _ in range(portions):
        worth = [p * a * math.exp(-a * z) for (p, a), z in zip(cells, people)]
        people[worth.index(max(worth))] += budget / portions
    return people, sum(p * (1 - math.exp(-a * z)) for (p, a), z in zip(cells, people))


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
    for hours, r, share in ((1, 0.5, 0.393723), (1, 2, 0.708465), (2, 3, 0.762669), (6, 5, 0.841337)):
        got = sum(cdf(r / s) for s in time_shares("dementia", 0, hours)) / 64
        assert abs(got - share) < 1e-5, (hours, r, got)
    for accuracy_m, expected in ((100, (1.1292, 3.2206, 12.5539)), (1000, (1.3702, 3.4024, 12.6572))):
        got = radii(dementia, "dementia", 1e5, accuracy_m)[1:]
        assert all(abs(a - b) < 1e-4 for a, b in zip(got, expected)), (accuracy_m, got)
    for r, weights in ((1, (0.8085, 0.9441, 0.9935)), (5, (0.1209, 0.3548, 0.8319)), (20, (0.0020, 0.0079, 0.0667))):
        for credibility, weight in zip((0.2, 0.5, 0.9), weights):
            got = sighting_weight(credibility, density(cdf, r), 12.552883)
            assert abs(got - weight) < 1e-4, (r, credibility, got)
    for cells, budget, expected, success in (
        (((0.6, 1), (0.4, 1)), 1, (0.70273, 0.29727), 0.40572),
        (((0.5, 1), (0.3, 1), (0.15, 1), (0.05, 1)), 3, (1.57160, 1.06077, 0.36763, 0), 0.63843),
        (((0.5, 1), (0.5, 2)), 1, (0.43562, 0.56438), 0.51485),
    ):
        people, pos = koopman(cells, budget)
        assert all(abs(a - b) < 3e-4 for a, b in zip(people, expected)) and abs(pos - success) < 1e-4, (people, pos)
    left = [p * math.exp(-e) for p, e in ((0.5, 1), (0.3, 1), (0.2, 0))]
    golden = (0.372119, 0.223271, 0.404610)
    assert all(abs(p / sum(left) - g) < 1e-6 for p, g in zip(left, golden)), left
    for knots, expected in ((MISPER, (21.3, 46.5, 72.1, 93.0)), (GRAMPIAN, (40.8, 67.9, 88.1, 99.1))):
        z, ln = [NORMAL.inv_cdf(q) for q, _ in knots], [math.log(r) for _, r in knots]
        for km, share in zip(dementia, expected):
            j = max([j for j in range(len(knots) - 1) if ln[j] <= math.log(km)], default=0)
            part = (math.log(km) - ln[j]) / (ln[j + 1] - ln[j])
            got = 100 * NORMAL.cdf(z[j] + part * (z[j + 1] - z[j]))
            assert abs(got - share) < 0.1, (km, got, share)
    print("golden values hold")


def run(binary, *more, category="dementia", environment="urban", hours=2.0, form="json"):
    command = [binary, "plan", "--category", category, f"--at={LAT},{LON}", f"--format={form}",
               "--environment", environment, f"--elapsed={hours}h", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def compare_radii(binary):
    worst, count = 0.0, 0
    for category, environment, distances in rows():
        for hours, accuracy_m in ((0.5, 0), (3, 250), (48, 1000)):
            plan = run(binary, f"--accuracy={accuracy_m}m", category=category, hours=hours,
                       environment="default" if environment == "any" else environment)
            expected = radii(distances, category, hours, accuracy_m)
            for name, km in zip(("r25", "r50", "r75", "r95"), expected):
                off = abs(plan["radii_km"][name] - km)
                assert off < 1e-4, (category, environment, hours, name, plan["radii_km"][name], km)
                worst = max(worst, off)
            count += 1
    print(f"{count} plans agree within {worst:.1e} km")


def compare_sighting(binary):
    dementia = next(d for c, e, d in rows() if (c, e) == ("dementia", "urban"))
    cdf, shares, reach = static_law(dementia), time_shares("dementia", 0, 1), reach_km("dementia", 1)
    within = sum(cdf(reach / s) for s in shares) / 64
    for north_km in (0.3, 1.0, 3.0):
        lat = LAT + math.degrees(north_km / EARTH_KM)
        effect = run(binary, f"--sighting={lat},{LON},1h,0.5,0m", hours=3)["sightings"][0]
        true_density = density(lambda r: sum(cdf(r / s) for s in shares) / 64 / within, north_km)
        weight = sighting_weight(0.5, true_density, radii(dementia, "dementia", 1)[3])
        assert abs(effect["weight"] - weight) < 1e-4, (north_km, effect, weight)
        expected = radii(dementia, "dementia", 3, since=1)
        got = [effect["radii"][name] for name in ("r25", "r50", "r75", "r95")]
        assert all(abs(a - b) < 1e-4 for a, b in zip(got, expected)), (north_km, got, expected)
    print("sightings agree")


def compare_cells(binary):
    """The likeliest cells' probabilities against the share of points that fall into their polygons."""
    dementia = next(d for c, e, d in rows() if (c, e) == ("dementia", "urban"))
    cdf, shares, reach = static_law(dementia), time_shares("dementia", 0, 2), reach_km("dementia", 2)
    law = lambda r: sum(cdf(r / s) for s in shares) / 64
    count, steps = 100000, 2000
    ends = [inverse(law, (k + 0.5) / steps * law(reach), reach) for k in range(steps)]
    points = []
    for k in range(count):
        r, turn = ends[k * steps // count] / EARTH_KM, k * math.pi * (3 - math.sqrt(5))
        lat = math.asin(math.sin(RAD_LAT) * math.cos(r) + math.cos(RAD_LAT) * math.sin(r) * math.cos(turn))
        east = math.atan2(math.sin(turn) * math.sin(r) * math.cos(RAD_LAT),
                          math.cos(r) - math.sin(RAD_LAT) * math.sin(lat))
        points.append((LON + math.degrees(east), math.degrees(lat)))
    features = run(binary, hours=2, form="geojson")["features"]
    cells = [one for one in features if one["properties"]["kind"] == "cell"][:20]
    for cell in cells:
        ring = cell["geometry"]["coordinates"][0]
        share = sum(inside(point, ring) for point in points) / count
        assert abs(share - cell["properties"]["p"]) < 1e-3, (cell["properties"], share)
    print(f"{len(cells)} cells agree with {count} points")


def inside(point, ring):
    (x, y), odd = point, False
    for (x1, y1), (x2, y2) in zip(ring, ring[1:]):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            odd = not odd
    return odd


if __name__ == "__main__":
    check_golden()
    if len(sys.argv) > 1:
        compare_radii(sys.argv[1])
        compare_sighting(sys.argv[1])
        compare_cells(sys.argv[1])
