-- Lock a batch's runs in a fixed order, so that several managers cannot block each other for good.
SELECT run.id
FROM unnest(%(facilities)b::text[], %(instruments)b::text[], %(numbers)b::bigint[]) AS wanted (facility, name, run_number)
JOIN instrument USING (facility, name)
JOIN run ON run.instrument_id = instrument.id AND run.run_number = wanted.run_number
ORDER BY run.id FOR NO KEY UPDATE OF run
