"""The ranges of a calibration cache, drawn: alone, or beside every tensor's values."""

from collections.abc import Sequence
from pathlib import Path

from calibrators.cache.text import CalibrationCache
from calibrators.statistics.file import merged_files
from trtcal.charts import specs
from trtcal.charts.chart import Chart
from trtcal.report.gather.ranges import ranges_section
from trtcal.report.page import write_page
from trtcal.report.record import FORMAT

CACHE = "cache"
"""What the cache's own ranges are called beside the methods."""


def write_ranges(path: Path, name: str, cache: CalibrationCache, statistics: Sequence[Path] = ()) -> None:
    """Write a page of a cache's ranges.

    Args:
        path: Of the page.
        name: Of the cache.
        cache: It.
        statistics: Files with the values of its tensors; shards are merged. Without any the ranges stand alone.

    Raises:
        MissingDependencyError: The extra [report] is not installed.
        OutputError: The page cannot be written.
        TrtcalError: The statistics cannot be read.
    """
    if not statistics:
        rows = [{"tensor": tensor, "amax": cache.amax(tensor)} for tensor in cache if cache[tensor] > 0]
        Chart(f"Ranges of {name}", specs.thresholds(rows)).save(path)
        return
    section = ranges_section(
        merged_files(statistics), chosen=CACHE, given={CACHE: {each: cache.amax(each) for each in cache}}
    )
    write_page({"report": FORMAT, "title": name, "ranges": section}, path)
