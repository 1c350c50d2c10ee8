"""Compares a lake of hourly Parquet folders with the access log it was loaded from.

Usage: lake.py LAKE LOG
Exits 0 when DuckDB finds the same number of rows for each hour as the log has.
"""
import collections
import datetime
import re
import sys

import duckdb

lake, log = sys.argv[1], sys.argv[2]
rows = duckdb.sql(f"""SELECT dt, hr, count(*) FROM read_parquet('{lake}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)
                      GROUP BY dt, hr""").fetchall()
loaded = {f"{dt}/{hr}": n for dt, hr, n in rows}
read = collections.Counter()
with open(log, errors="replace") as lines:
    for line in lines:
        at = datetime.datetime.strptime(re.search(r"\[([^\]]+)\]", line)[1], "%d/%b/%Y:%H:%M:%S %z")
        read[at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d/%H")] += 1
if loaded != dict(read):
    sys.exit(f"the lake has {sum(loaded.values())} rows in {len(loaded)} hours, the log {sum(read.values())} lines in {len(read)}")
print(f"DuckDB {duckdb.__version__}: {sum(loaded.values())} rows in {len(loaded)} hourly folders, for each hour as many as the log has")
