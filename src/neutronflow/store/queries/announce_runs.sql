-- Tell open pages which runs have changed. Has to be the last statement of its transaction.
SELECT announce('run', facility, instrument, run_number)
FROM unnest(%(facilities)s::text[], %(instruments)s::text[], %(numbers)s::bigint[]) AS changed (facility, instrument, run_number)
