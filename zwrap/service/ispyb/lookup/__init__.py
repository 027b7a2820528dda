"""The Dispatcher's look-up: what the database knows about the data of a request."""
