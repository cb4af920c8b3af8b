"""Reads all Parquet files below a directory with one engine: `read.py <engine> <directory>`.

Prints one JSON object: per "device metric" the rows, the sum of the values, the first and the last time in
unix nanoseconds, and the characters of all texts. Nothing of Weir's own is used.
"""

import glob
import json
import sys

engine, directory = sys.argv[1:3]
files = sorted(glob.glob(directory + "/**/*.parquet", recursive=True))
found = {}


def add(device, metric, rows, total, first, last, characters):
    found[f"{device} {metric}"] = [rows, total or 0.0, first, last, characters or 0]


if engine == "duckdb":
    import duckdb

    rows = duckdb.sql(
        """select device, metric, count(*), sum(value), min(epoch_ns(time)), max(epoch_ns(time)), sum(length(text))
           from read_parquet($1, hive_partitioning = true) group by 1, 2""",
        params=[files],
    ).fetchall()
    for row in rows:
        add(*row[:6], int(row[6] or 0))
elif engine == "polars":
    import polars as pl

    rows = (
        pl.scan_parquet(files, hive_partitioning=True)
        .group_by("device", "metric")
        .agg(
            pl.len(),
            pl.col("value").sum(),
            pl.col("time").min().dt.epoch("ns").alias("first"),
            pl.col("time").max().dt.epoch("ns").alias("last"),
            pl.col("text").str.len_chars().sum(),
        )
        .collect()
    )
    for row in rows.iter_rows():
        add(*row)
elif engine == "pandas":
    import pandas as pd

    table = pd.concat([pd.read_parquet(file) for file in files])
    for (device, metric), group in table.groupby(["device", "metric"], observed=True):
        times = group["time"].astype("int64")
        characters = group["text"].dropna().str.len().sum()
        add(device, metric, len(group), float(group["value"].sum()), int(times.min()), int(times.max()), int(characters))
else:
    sys.exit(f"no engine {engine}")

print(json.dumps(found))
