"""Station "transport", over ActiveMQ."""
