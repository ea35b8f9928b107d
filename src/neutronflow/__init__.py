"""Neutronflow: the data workflow of a neutron scattering facility."""

__version__ = "0.1.0"
