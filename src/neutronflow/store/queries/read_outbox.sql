-- The oldest commands not published yet, held against other managers for as long as they are being published.
SELECT id, destination, nf_id, body FROM outbox ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
