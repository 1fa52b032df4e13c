"""Settings of a city: frozen values, parsed once from ``city.toml`` and passed down.

Reading the file and reporting every error at once is `citybrain.cityfile`. Nothing below the entry point reads the
environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class TimeSettings:
    """How event time is cut and how long it is waited for.

    Attributes
    ----------
    pane
        Length of a pane; must divide an hour.
    reorder
        How far behind the watermark a pane is kept open for readings out of order.
    lateness
        How long after its close a pane may be revised.
    source_idle
        A source silent for so long (record time) holds nothing back any more.
    skew
        A stamp further than this ahead of the record time is refused.
    provisional
        How often an open pane is published for the screen, wall time.
    checkpoint
        How often state is snapshotted, wall time.
    """

    pane: timedelta = timedelta(minutes=1)
    reorder: timedelta = timedelta(seconds=10)
    lateness: timedelta = timedelta(minutes=2)
    source_idle: timedelta = timedelta(seconds=60)
    skew: timedelta = timedelta(minutes=5)
    provisional: timedelta = timedelta(seconds=1)
    checkpoint: timedelta = timedelta(seconds=1)

    @property
    def pane_ms(self) -> int:
        """Length of a pane, ms."""
        return int(self.pane.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class Limits:
    """Physical range of one reading; a value outside goes to the dead letters. Sources: reference indices 5.4.

    Attributes
    ----------
    flow_vph_per_lane
        Highest flow a lane, veh/h.
    speed_kmh
        Highest speed.
    interval
        Longest interval of observation.
    shortest_vehicle_m
        A detector whose vehicles cover less on the mean, length and detection zone together, counts too many; 0 judges
        none.
    """

    flow_vph_per_lane: float = 3600.0
    speed_kmh: float = 250.0
    interval: timedelta = timedelta(hours=1)
    shortest_vehicle_m: float = 4.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as congested, and when an alert opens and closes.

    Attributes
    ----------
    level_breaks
        Speed ratios that end levels 1..4 (GB/T 33171: 0.70, 0.50, 0.40, 0.30); a boundary belongs to the worse level.
    speed_floor_kmh
        Speed taken where vehicles are present and the measured speed is 0 (PeMS: 3 mph).
    standing_occupancy
        A loop covered for this share of an interval, with no speed, has vehicles standing on it: PeMS calls an
        occupancy above 0.70 a high value.
    effective_length_m
        Mean vehicle length plus the detection zone: density a lane is occupancy over this (PeMS: 22 ft where nothing
        is known of the detector).
    warn_probability
        Expected congestion is signalled from this probability.
    open_after, close_after
        A cause must last so long before its alert opens, and be gone so long before it closes; an incident twice as
        long, for drivers go round it meanwhile.
    update_every
        An open alert tells of changes at most so often.
    alert_min_km
        Shorter congestion than this opens no alert.
    """

    level_breaks: tuple[float, float, float, float] = (0.70, 0.50, 0.40, 0.30)
    speed_floor_kmh: float = 4.828032
    standing_occupancy: float = 0.70
    effective_length_m: float = 6.7056
    warn_probability: float = 0.6
    open_after: timedelta = timedelta(minutes=3)
    close_after: timedelta = timedelta(minutes=5)
    update_every: timedelta = timedelta(minutes=5)
    alert_min_km: float = 0.3


Metric = Literal["count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s"]


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where a metric stands in a table and in which unit.

    Attributes
    ----------
    column
        Name of the column.
    unit
        ``veh``, ``veh/h``, ``veh/5min`` (any interval); ``km/h``, ``mph``, ``m/s``; ``share``, ``percent``; ``s``,
        ``min``.
    """

    column: str
    unit: str


@dataclass(frozen=True, slots=True)
class TableFeed:
    """A CSV or Parquet archive of detector values.

    Attributes
    ----------
    name
        Name of the source.
    files
        Glob, relative to the city folder or absolute; ``{data}`` stands for ``--data DIR`` of the command.
    detector_column, time_column
        Who and when.
    time_format
        ``iso`` or a strptime pattern; a zone written in the stamp is dropped where ``ignore_zone`` is set.
    timezone
        IANA zone of the stamps; repeated hours at the end of daylight saving are taken as the first.
    ignore_zone
        True where stamps carry a zone they do not mean (PeMS: local time with a Z).
    interval
        Length of the interval of observation.
    stamp_edge
        Which edge of the interval the stamp is.
    metrics
        Column and unit of each metric that the table has.
    missing
        Numbers that mean missing, such as -1.
    keep_where
        Only rows whose column has this text, such as ``{"is_observed": "1"}``.
    scope
        ``carriageway``: values of all lanes together; ``lane``: flows are means per lane.
    """

    name: str
    files: str
    detector_column: str
    time_column: str
    metrics: dict[Metric, ColumnMapping]
    interval: timedelta
    timezone: str = "UTC"
    time_format: str = "iso"
    ignore_zone: bool = False
    stamp_edge: Literal["start", "end"] = "start"
    missing: tuple[float, ...] = ()
    keep_where: dict[str, str] = field(default_factory=dict)
    scope: Literal["carriageway", "lane"] = "carriageway"


@dataclass(frozen=True, slots=True)
class SumoFeed:
    """SUMO as a feed: a simulation that is driven, or files that one wrote.

    Attributes
    ----------
    name
        Name of the source.
    start
        Local time of the simulation's second 0, such as ``2026-04-02T00:00``.
    config
        The ``.sumocfg`` that is driven through libsumo; relative to the city folder or absolute.
    files
        Glob of output files (E1, E2, floating-car data), as in `TableFeed`.
    interval
        Loops of a driven simulation report so often; positions of vehicles are put together over so long.
    probe_share
        Share of the vehicles that tell where they are.
    """

    name: str
    start: str
    config: str = ""
    files: str = ""
    interval: timedelta = timedelta(minutes=1)
    probe_share: float = 1.0

    def __post_init__(self) -> None:
        if bool(self.config) == bool(self.files):
            seen = "config and files" if self.config else "neither config nor files"
            raise ValueError(f"{seen} seen, one of them allowed")


@dataclass(frozen=True, slots=True)
class ScriptedIncident:
    """An incident of the simulated city that happens every day, besides the drawn ones: for demos and drills.

    Attributes
    ----------
    segment
        Segment id.
    at
        Local time of its onset, such as ``07:04``.
    duration
        How long it lasts.
    lanes
        Lanes that it closes.
    """

    segment: str
    at: str
    duration: timedelta = timedelta(minutes=30)
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class SimulatedFeed:
    """The simulated city as a feed.

    Attributes
    ----------
    name
        Name of the source.
    seed
        Seed of every random draw.
    trips
        Trips of an ordinary weekday.
    interval
        Reporting interval of the loops.
    incidents_per_day
        Mean number of incidents that close lanes.
    faulty_share
        Share of detectors with a fault.
    signals
        Whether junctions of main roads have fixed-time signals; otherwise time is shared there on average.
    truck_share
        Share of the trips that trucks make, 0..1.
    capacity_drop
        Share of a motorway's capacity that is lost while a queue stands before it, 0 to 0.5.
    speed
        How many times faster than real time, until the present is reached; 1 follows the wall clock.
    start
        Local time of day at which the demo's clock starts on the last Tuesday; empty with ``speed`` 1.
    scripted
        Incidents that happen every day.
    scenario
        Name of a ready scenario, or a scenario file in the city folder: what it says goes before these settings; empty
        is an ordinary city.
    calibration
        File that ``citybrain calibrate --counts`` wrote, in the city folder; empty is the demand as the model has it.
    land_use
        File with the city's land use, in the city folder; empty is ``landuse.arrow`` where there is one.
    """

    name: str = "simulated"
    seed: int = 1
    trips: int = 350_000
    interval: timedelta = timedelta(seconds=30)
    incidents_per_day: float = 40.0
    faulty_share: float = 0.02
    signals: bool = False
    truck_share: float = 0.0
    capacity_drop: float = 0.0
    speed: float = 1.0
    start: str = ""
    scripted: tuple[ScriptedIncident, ...] = ()
    scenario: str = ""
    calibration: str = ""
    land_use: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that hears of alerts.

    Attributes
    ----------
    name
        Its name in the outbox and in logs.
    url
        http or https address.
    secret_file
        File with ``whsec_...``; made with mode 0600 at the first start where it is absent.
    types
        Event types it hears; empty is all.
    districts
        Area ids it hears of; empty is all.
    """

    name: str
    url: str
    secret_file: str
    types: tuple[str, ...] = ()
    districts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Brokers elsewhere and how to speak to them; where ``brokers`` is empty the city has an embedded one.

    Attributes
    ----------
    brokers
        ``host:port[,host:port...]``; ``--brokers`` of a command takes its place.
    replication, min_insync_replicas
        Copies of each partition, and how many of them must have a message before it counts as written.
    security
        How a connection is made: in the clear or by TLS (``ssl``), without or with a password (``sasl_``).
    mechanism
        How the password is proved, with ``sasl_``.
    username, password_file
        Who connects; the file holds the password alone. Relative files lie in the city folder.
    ca_file
        Certificates of the authorities trusted; empty is the machine's own.
    certificate_file, key_file
        This client's own certificate and key, where brokers ask for one.
    """

    brokers: str = ""
    replication: int = 1
    min_insync_replicas: int = 1
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where results are kept.

    Attributes
    ----------
    kind
        ``duckdb``: a file in the data folder, for one process; ``influxdb``: InfluxDB 2.7, for several machines.
    url, org, bucket
        Of InfluxDB; the buckets of roll-ups are named after ``bucket``.
    token_file
        File that holds the token alone. Relative files lie in the city folder.
    keep
        Every pane of every segment is kept so long.
    keep_rollups
        Roll-ups of segments and areas are kept so long.
    """

    kind: Literal["duckdb", "influxdb"] = "duckdb"
    url: str = "http://127.0.0.1:8086"
    org: str = "citybrain"
    bucket: str = "citybrain"
    token_file: str = "influxdb-token"  # noqa: S105  the name of a file
    keep: timedelta = timedelta(days=14)
    keep_rollups: timedelta = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class CitySettings:
    """One city.

    Attributes
    ----------
    folder
        The city folder, absolute.
    data_folder
        Where broker, stores, archive and logs live; by default ``.citybrain-data`` in the city folder.
    name, name_zh
        Name on the screen; in Chinese where it has one.
    timezone
        IANA zone of the city: days, typical times and the screen's clock follow it.
    network_file
        Name of the network's file in the folder.
    typical_file
        Name of the typical week's file that ships with the city; empty where there is none.
    retention
        ``time``: topics keep by time; ``size``: by size, where the feed's clock is not the wall clock.
    database_url
        SQLAlchemy URL of alerts and outbox; empty is SQLite in the data folder.
    database_password_file
        File that holds the password for ``database_url`` alone; empty where the URL needs none. A relative one lies in
        the city folder.
    archive_keep
        Raw messages stay in the archive so long.
    json_edge
        True where `POST /api/v1/readings` and ``readings-json`` are open.
    public_url
        Address of the page as people and receivers of webhooks reach it, through a proxy on the same machine; empty is
        where it listens.
    """

    folder: Path
    data_folder: Path
    name: str
    timezone: str
    name_zh: str = ""
    network_file: str = "network.arrow"
    typical_file: str = ""
    retention: Literal["time", "size"] = "time"
    database_url: str = ""
    database_password_file: str = ""
    archive_keep: timedelta = timedelta(days=400)
    json_edge: bool = True
    public_url: str = ""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    time: TimeSettings = field(default_factory=TimeSettings)
    limits: Limits = field(default_factory=Limits)
    thresholds: Thresholds = field(default_factory=Thresholds)
    tables: tuple[TableFeed, ...] = ()
    simulated: tuple[SimulatedFeed, ...] = ()
    sumo: tuple[SumoFeed, ...] = ()
    webhooks: tuple[Webhook, ...] = ()

    @property
    def network_path(self) -> Path:
        """The road network."""
        return self.folder / self.network_file

    @property
    def broker_folder(self) -> Path:
        """Log, settings and address (``address.json``) of the embedded broker."""
        return self.data_folder / "broker"

    @property
    def store_path(self) -> Path:
        """The DuckDB file."""
        return self.data_folder / "store.duckdb"

    @property
    def archive_folder(self) -> Path:
        """Parquet archive of readings, passages and events."""
        return self.data_folder / "archive"

    @property
    def truth_folder(self) -> Path:
        """What really happened in the simulated city; no stage reads it."""
        return self.data_folder / "truth"

    @property
    def learnt_typical_path(self) -> Path:
        """Typical week learnt from the store; takes the place of the one that ships with the city."""
        return self.data_folder / "typical.arrow"

    @property
    def database_address(self) -> str:
        """SQLAlchemy URL of alerts and outbox."""
        return self.database_url or f"sqlite:///{self.data_folder / 'city.sqlite'}"
