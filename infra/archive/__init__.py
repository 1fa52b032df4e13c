"""Archive: messages of raw topics in, Parquet files by topic, day and hour with a manifest each out; and back."""

from infra.archive.archive import Archive
from infra.archive.check import Report, check
from infra.archive.files import HOUR_MS, ArchiveDamaged
from infra.archive.manifest import Manifest

__all__ = ["HOUR_MS", "Archive", "ArchiveDamaged", "Manifest", "Report", "check"]
