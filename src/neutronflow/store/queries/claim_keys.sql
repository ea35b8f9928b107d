-- Note the deduplication keys of a batch; gives back those that were not there yet.
INSERT INTO seen_message (key) SELECT unnest(%(keys)s::text[]) ON CONFLICT DO NOTHING RETURNING key
