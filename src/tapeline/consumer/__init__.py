"""From Kafka through Spark to Cassandra."""

from tapeline.program.other_pyspark import leave_other_pyspark

leave_other_pyspark()  # before any of these modules imports it
