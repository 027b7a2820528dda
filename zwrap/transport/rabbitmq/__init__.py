"""Station "transport", over RabbitMQ (AMQP 0-9-1)."""
