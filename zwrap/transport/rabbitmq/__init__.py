"""Station "transport", over RabbitMQ."""
