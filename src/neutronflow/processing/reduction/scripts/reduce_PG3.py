"""Autoreduction of a powder run: its events focused to plane spacing, by proton charge.

Run by the agent as ``python reduce_PG3.py <NeXus file> <output folder>/``; it can be run by hand in the same way. It asks the
file which instrument and run it holds and where the instrument's pixels are, so that it serves any powder diffractometer.
"""

import sys
from pathlib import Path

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.processing.reduction.powder import focus_run
from neutronflow.processing.reduction.powderfigure import pattern_html
from neutronflow.processing.reduction.powderfiles import write_pattern
from plot_publisher import ConfigurationInvalid, PlotPublisherError, publish_plot

#: Plane spacings, in Å, and the relative width of a bin.
D_MIN, D_MAX, D_STEP = 0.4, 4.0, 0.001


def main(nexus_file: str, output_dir: str) -> None:
    """Reduce one run, write the results, and publish its plot."""
    print(f"Reducing {nexus_file}")
    focused = focus_run(Path(nexus_file), d_min=D_MIN, d_max=D_MAX, d_step=D_STEP)
    info = focused.info
    print(
        f"{info.instrument} run {info.run_number}: {focused.total_counts} events in {focused.pattern.sizes['dspacing']} bins"
    )
    if focused.unplaced:
        print(f"{focused.unplaced} events are of pixels that the instrument's definition has not", file=sys.stderr)
    if focused.outside:
        print(f"{focused.outside} events have plane spacings beyond {D_MIN} to {D_MAX} Å")
    if focused.by_charge is None:
        print("The proton charge is zero: not normalised", file=sys.stderr)
    plot = pattern_html(focused)
    for path in write_pattern(focused, Path(output_dir), plot):
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
