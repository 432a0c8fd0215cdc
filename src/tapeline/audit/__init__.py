"""Audit: prove from the messages up that the stored bars are right, without Spark."""
