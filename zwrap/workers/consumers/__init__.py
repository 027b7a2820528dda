"""Consumer classes of amqp-dispatcher."""
