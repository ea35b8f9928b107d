-- Process variables of an instrument, many at a time.
SELECT nf_store_pvs(
    %(facility)s::text, %(instrument)s::text, %(names)s::text[], %(numbers)s::float8[], %(texts)s::text[],
    %(statuses)s::bigint[], %(times)s::float8[], %(units)s::text[], %(severities)s::bigint[]
)
