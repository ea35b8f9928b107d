-- Make sure that the runs of a batch exist.
INSERT INTO run (instrument_id, run_number, state)
SELECT DISTINCT instrument.id, wanted.run_number, 'acquiring'
FROM unnest(%(facilities)b::text[], %(instruments)b::text[], %(numbers)b::bigint[]) AS wanted (facility, name, run_number)
JOIN instrument USING (facility, name)
ORDER BY 1, 2 ON CONFLICT DO NOTHING
