// What arrow-go's driver of database/sql is answered, in the words of clients.py: one JSON array on standard output.
//
//	client ADDRESS QUERY... -> [{"columns": [NAME, ...], "rows": [[VALUE, ...], ...]}, ...]
//
// A query may be followed by values of its parameters, each after a tab: a kind and a colon, then the value (text:Lima, long:7, double:0.5,
// boolean:true, bytes:a hexadecimal text, null:). A query that fails is {"error": TEXT}.
package main

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/apache/arrow-go/v18/arrow/flight/flightsql/driver"
)

func main() {
	db, err := sql.Open("flightsql", "flightsql://"+os.Args[1]+"?timeout=60s")
	fail(err)
	defer db.Close()
	answers := []any{}
	for _, argument := range os.Args[2:] {
		parts := strings.Split(argument, "\t")
		values := []any{}
		for _, part := range parts[1:] {
			values = append(values, value(part))
		}
		answer, err := ask(db, parts[0], values)
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		answers = append(answers, answer)
	}
	fail(json.NewEncoder(os.Stdout).Encode(answers))
}

func ask(db *sql.DB, query string, values []any) (any, error) {
	rows, err := db.Query(query, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	all := [][]any{}
	for rows.Next() {
		row, places := make([]any, len(columns)), make([]any, len(columns))
		for at := range row {
			places[at] = &row[at]
		}
		if err := rows.Scan(places...); err != nil {
			return nil, err
		}
		for at, value := range row {
			if instant, is := value.(time.Time); is {
				row[at] = instant.UTC().Format(time.RFC3339Nano)
			}
		}
		all = append(all, row)
	}
	return map[string]any{"columns": columns, "rows": all}, rows.Err()
}

func value(described string) any {
	kind, text, _ := strings.Cut(described, ":")
	switch kind {
	case "text":
		return text
	case "long":
		number, err := strconv.ParseInt(text, 10, 64)
		fail(err)
		return number
	case "double":
		number, err := strconv.ParseFloat(text, 64)
		fail(err)
		return number
	case "boolean":
		return text == "true"
	case "bytes":
		bytes, err := hex.DecodeString(text)
		fail(err)
		return bytes
	case "null":
		return nil
	}
	fail(fmt.Errorf("%s", described))
	return nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
