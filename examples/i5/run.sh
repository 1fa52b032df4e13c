#!/usr/bin/env bash
# Makes a corridor city from PeMS-shaped files and recomputes its indices: run.sh DATA_DIR PREFIX OUT_DIR
set -euo pipefail

if [ $# -ne 3 ]; then
    echo "usage: run.sh DATA_DIR PREFIX OUT_DIR   (such as: run.sh ../shared/data/pems_i5 I5N /tmp/i5)" >&2
    exit 2
fi
data=$1 prefix=$2 out=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stations="$data/${prefix}_detector_chain_fd.csv"
if [[ ! $prefix =~ ^[A-Za-z0-9.-]+$ ]]; then
    echo "run.sh: PREFIX '$prefix' seen, letters, digits, '.' and '-' allowed" >&2
    exit 2
fi
if [ ! -f "$stations" ]; then
    echo "run.sh: no $stations: DATA_DIR must hold PREFIX_detector_chain_fd.csv" >&2
    exit 2
fi
citybrain="$here/../../.venv/bin/citybrain"
[ -x "$citybrain" ] || citybrain=$(command -v citybrain) || {
    echo "run.sh: no citybrain: neither in $here/../../.venv nor on the PATH (make it with: make install)" >&2
    exit 2
}
mkdir -p "$out/city"
data=$(cd "$data" && pwd) out=$(cd "$out" && pwd)

# Values are of the whole carriageway, stamps are local although they end in Z (timezone: TIMEZONE=... to change it).
# Lane tags in these tables are unreliable, so the highest flow is that of a wide carriageway even on "1 lane".
cat >"$out/city/city.toml" <<TOML
name = "$prefix"
timezone = "${TIMEZONE:-America/Los_Angeles}"
json_edge = false

[time]
pane = "5min"

[limits]
flow_vph_per_lane = 20_000

[[tables]]
name = "states"
files = "{data}/${prefix}_*detector_states*.csv*"
detector_column = "station_id"
time_column = "timestamp"
interval = "5min"
stamp_edge = "start"
timezone = "${TIMEZONE:-America/Los_Angeles}"
ignore_zone = true
scope = "carriageway"
keep_where = { is_observed = "1" }

[tables.metrics]
speed_kmh = { column = "speed", unit = "km/h" }
flow_vph = { column = "flow", unit = "veh/h" }
occupancy = { column = "occupancy", unit = "share" }
TOML

"$citybrain" network import stations "$stations" "$out/city" --road "$prefix" --partitions 2
"$citybrain" network check "$out/city" --data "$data"
"$citybrain" recompute "$out/city" --data "$data" --out "$out"
echo "$out/area_indices.parquet"
echo "$out/segment_states.parquet"
