-- The oldest commands not published yet, and not being published by another manager.
SELECT id, destination, nf_id, body FROM outbox ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
