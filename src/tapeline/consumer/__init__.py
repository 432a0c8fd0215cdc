"""From Kafka through Spark to Cassandra."""
