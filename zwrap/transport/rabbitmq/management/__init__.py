"""RabbitMQ's management HTTP API: what a site wants there, and what there is."""
