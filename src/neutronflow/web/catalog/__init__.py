"""The built-in catalog: where files can be found by what is in them. Speaks ONCat's HTTP interface."""
