-- Make sure that the experiments of a batch exist.
INSERT INTO experiment (facility, name)
SELECT DISTINCT facility, name FROM unnest(%(facilities)s::text[], %(names)s::text[]) AS wanted (facility, name)
ORDER BY facility, name ON CONFLICT DO NOTHING
