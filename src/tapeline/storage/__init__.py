"""Cassandra: tables, reads and writes."""
