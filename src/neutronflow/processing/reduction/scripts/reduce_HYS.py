"""Autoreduction of a run: TOF spectrum, detector image, and the same by beam monitor and by proton charge.

Run by the agent as ``python reduce_HYS.py <NeXus file> <output folder>/``; it can be run by hand in the same way. It asks the
file which instrument and run it holds, so that it serves any instrument.
"""

import sys
from pathlib import Path

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.processing.reduction import figure_html, reduce_run, write_results
from plot_publisher import ConfigurationInvalid, PlotPublisherError, publish_plot

#: Width of the TOF bins in µs; None: as narrow as 1,000 bins allow.
TOF_BIN_US = None
#: The beam monitor to normalise by, such as "monitor1"; None: the first that has counted.
MONITOR = None


def main(nexus_file: str, output_dir: str) -> None:
    """Reduce one run, write the results, and publish its plot."""
    print(f"Reducing {nexus_file}")
    reduced = reduce_run(Path(nexus_file), tof_bin_us=TOF_BIN_US, monitor=MONITOR)
    info = reduced.info
    print(
        f"{info.instrument} run {info.run_number}: {reduced.total_counts} events in {reduced.spectrum.sizes['tof']} TOF bins"
    )
    if reduced.by_monitor is None:
        print("No beam monitor has counted: not normalised by monitor", file=sys.stderr)
    if reduced.by_charge is None:
        print("The proton charge is zero: not normalised by charge", file=sys.stderr)
    plot = figure_html(reduced)
    for path in write_results(reduced, Path(output_dir), plot):
        print(f"Wrote {path}")
    try:
        answer = publish_plot(info.instrument, info.run_number, files={"file": plot})
    except ConfigurationInvalid as error:
        # Run by hand there may be nowhere to publish; the data are reduced all the same.
        print(f"The plot was not published: {error}", file=sys.stderr)
    else:
        print(f"Published the plot: {answer.url}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"Usage: {Path(sys.argv[0]).name} <NeXus file> <output folder>")
    try:
        main(sys.argv[1], sys.argv[2])
    except (NeutronflowError, PlotPublisherError) as error:
        sys.exit(f"Error: {error}")
