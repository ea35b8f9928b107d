"""What a job needs to publish its plot: where, and a token for its run and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from neutronflow.domain.facility import RunKey
from neutronflow.foundation import tokens

#: Scope of tokens with which one plot of one run can be published.
UPLOAD_SCOPE = "plot-upload"


def publish_environment(
    livedata_url: str, secret: str, run: RunKey, experiment: str, lifetime_s: float
) -> Mapping[str, str]:
    """Environment variables that the plot client (``plot_publisher``) reads."""
    claims = {
        "facility": run.facility,
        "instrument": run.instrument,
        "run": str(run.run_number),
        "experiment": experiment,
    }
    return {
        "PLOT_PUBLISHER_URL_TEMPLATE": f"{livedata_url.rstrip('/')}/plots/$instrument/$run_number/upload_plot_data/",
        "PLOT_PUBLISHER_TOKEN": tokens.mint(secret, UPLOAD_SCOPE, claims, lifetime_s),
    }
