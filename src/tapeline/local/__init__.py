"""The local stack: a real Kafka and a real Cassandra as child processes."""
