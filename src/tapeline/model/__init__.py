"""What the market data is made of: pure, and imports nothing of ours."""
