"""A STOMP broker for one machine: durable queues, topics, receipts after commit, everything bounded."""
