-- Commands that follow from a batch.
INSERT INTO outbox (destination, nf_id, body) SELECT * FROM unnest(%(destinations)s::text[], %(nf_ids)s::text[], %(bodies)s::bytea[])
