"""From the feed's WebSocket to Kafka."""
