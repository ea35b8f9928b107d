-- Commands that follow from a batch.
INSERT INTO outbox (destination, nf_id, body) SELECT * FROM unnest(%(destinations)b::text[], %(nf_ids)b::text[], %(bodies)b::bytea[])
