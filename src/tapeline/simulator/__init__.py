"""A WebSocket server that speaks Finnhub's protocol, from a tape or a random market."""
