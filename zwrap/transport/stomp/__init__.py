"""Station "transport", over ActiveMQ (STOMP 1.1)."""
