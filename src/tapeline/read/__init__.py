"""Bars and trades from Cassandra as Arrow tables: the readers of the Python package."""
