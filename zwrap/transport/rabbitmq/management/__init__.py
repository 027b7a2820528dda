"""RabbitMQ's HTTP API: what a site wants there, and what there is."""
