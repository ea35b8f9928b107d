-- Tell open pages which runs have changed. Has to be the last statement of its transaction.
SELECT announce('run', facility, instrument, run_number)
FROM unnest(%(facilities)b::text[], %(instruments)b::text[], %(numbers)b::bigint[]) AS changed (facility, instrument, run_number)
