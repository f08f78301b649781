#!/bin/sh
# Loads a folder of yellow taxi trips (Parquet, as published, or CSV) into a warehouse, each row once; run it again when there are more files.
#
#   examples/nyc_taxi/load.sh FOLDER [WAREHOUSE]        (default warehouse: ./nyc-taxi)
#
# WATERSHED names the binary, if it is not in the PATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "${1:?give the folder with the files}" && pwd)
warehouse=${2:-nyc-taxi}
watershed=${WATERSHED:-watershed}

format=csv
ls "$folder"/*.parquet >/dev/null 2>&1 && format=parquet
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
sed -e "s|@folder@|$(printf %s "$folder" | sed "s/[&|\\\\]/\\\\&/g; s/'/''/g")|" -e "s|@format@|$format|" "$here/trips.sql" >"$project/trips.sql"
"$watershed" apply "$project" --yes --warehouse "$warehouse"
"$watershed" stream --until-caught-up --warehouse "$warehouse"
