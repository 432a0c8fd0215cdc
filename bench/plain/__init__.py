"""The plain consumer: what a good engineer writes in a week without Spark, given its best shot."""
