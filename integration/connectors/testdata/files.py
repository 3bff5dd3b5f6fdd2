# SPDX-License-Identifier: Apache-2.0
#
# usage: files.py cards-parquet|cards-avro|bounds DIR
#
# Reads the files of a test with programs that are not ours.

import glob
import hashlib
import sys

import duckdb
import fastavro

what, folder = sys.argv[1:]
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
COLUMNS = ["ID", "At", "Customer", "Terminal", "Cents", "Fraud", "Scenario"]


def summary(rows):
    """Prints the number of rows, the sum of cents and a hash of the rows in the order of their IDs."""
    count = cents = 0
    digest = hashlib.sha256()
    for row in rows:
        count += 1
        cents += row[COLUMNS.index("Cents")]
        digest.update((",".join("" if v is None else str(v).lower() for v in row) + "\n").encode())
    print(count, cents, digest.hexdigest())


def cards_parquet():
    columns = ", ".join('epoch_us("At")' if c == "At" else c for c in COLUMNS)
    result = db.execute(f"select {columns} from '{folder}/*.parquet' order by ID")
    summary(iter(result.fetchone, None))


def cards_avro():
    rows = []
    for name in glob.glob(f"{folder}/*.avro"):
        with open(name, "rb") as file:
            # Without the logical type: Python's own times would take most of the test.
            rows.extend(tuple(r[c] for c in COLUMNS) for r in plain(file))
    rows.sort()
    summary(rows)


def plain(file):
    fastavro.read.LOGICAL_READERS.pop("long-timestamp-micros", None)
    return fastavro.reader(file)


def bounds():
    """Filters find the same rows with the statistics of a file as in a table without any."""
    files = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = false)"
    db.execute(f"create table rows as select * from {files}")
    long = "repeat('a', 200)"
    values = {
        "F64": ["-3", "-2", "0.0", "-0.0", "1", "1.5", "2", "3", "'NaN'", "'inf'", "'-inf'"],
        "F32": ["-3", "-2", "0.0", "-0.0", "1", "1.5", "2", "3", "'NaN'", "'inf'", "'-inf'"],
        "U64": ["0", "1", "9223372036854775807", "9223372036854775808", "18446744073709551615"],
        "I64": ["-9223372036854775808", "-1", "0", "9223372036854775807"],
        "At": ["make_timestamptz(-1)", "make_timestamptz(0)", "make_timestamptz(-1000000000000001)", "make_timestamptz(1)"],
        "Text": ["''", long, f"{long} || 'b'", f"{long} || 'z'", f"{long} || chr(1114111)", "repeat('a', 400) || 'x'"],
    }
    filters = differ = 0
    for column, candidates in values.items():
        for value in candidates:
            for op in ["<", "<=", "=", ">=", ">", "!="]:
                value_of_type = f"{value}::{'double' if column == 'F64' else 'float'}" if column in ("F64", "F32") else value
                where = f'"{column}" {op} {value_of_type}'
                found, wanted = (sorted(db.execute(f"select ID from {source} where {where}").fetchall()) for source in (files, "rows"))
                filters += 1
                if found != wanted:
                    differ += 1
                    print(f"{where}: found {found}, want {wanted}", file=sys.stderr)
    micros = [us for (us,) in db.execute('select epoch_us("At") from rows order by ID').fetchall()]
    print(filters, differ, micros)


{"cards-parquet": cards_parquet, "cards-avro": cards_avro, "bounds": bounds}[what]()
