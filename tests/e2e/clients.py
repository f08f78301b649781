"""What the ADBC driver is answered: one JSON array on standard output. JdbcClient.java says the same in the same words.

    clients.py URL QUERY...   ->   [{"columns": [NAME, ...], "rows": [[VALUE, ...], ...]}, ...]

Whole numbers and doubles are numbers, decimals text, times ISO 8601 in UTC.
"""

import datetime
import decimal
import json
import sys

from adbc_driver_flightsql import dbapi


def plain(value):
    if isinstance(value, datetime.datetime):
        precision = "seconds" if value.microsecond == 0 else "milliseconds" if value.microsecond % 1000 == 0 else "microseconds"
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date):
        return str(value)
    return value


def main(url, queries):
    answers = []
    with dbapi.connect(url, autocommit=True) as connection:
        for sql in queries:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                columns = [column[0] for column in cursor.description]
                answers.append({"columns": columns, "rows": [[plain(value) for value in row] for row in cursor.fetchall()]})
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
