"""Which steps a run goes through, as data."""

from __future__ import annotations

from dataclasses import dataclass

from neutronflow.domain.messages import destinations
from neutronflow.domain.workflow.states import StepName


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step: the queue its command goes to, and the step that has to be complete before."""

    name: StepName
    destination: str
    needs: StepName | None = None


#: Catalog the raw file and reduce it, both at once; catalog the reduced data after the reduction.
DEFAULT_PIPELINE = (
    StepDefinition(StepName.CATALOG_RAW, destinations.CATALOG_RAW_READY),
    StepDefinition(StepName.REDUCE, destinations.REDUCTION_READY),
    StepDefinition(StepName.CATALOG_REDUCED, destinations.REDUCTION_CATALOG_READY, needs=StepName.REDUCE),
)
