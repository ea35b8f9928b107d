-- Note the deduplication keys of a batch; gives back those that were not there yet.
INSERT INTO seen_message (key) SELECT DISTINCT key FROM unnest(%(keys)b::text[]) AS new (key) ORDER BY key
ON CONFLICT DO NOTHING RETURNING key
