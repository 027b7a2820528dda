"""RabbitMQ's management HTTP API: its client, and the configuration that a site wants."""
