"""Spark Structured Streaming between two topics of a hub.

Reads topic IN from its start to its present end, writes what it read to topic
OUT, and counts it by key. Nothing but the address says that it is a hub.

Arguments: BOOTSTRAP IN OUT CHECKPOINTS JARS
"""

import sys

from pyspark.sql import SparkSession

bootstrap, topic_in, topic_out, checkpoints, jars = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", jars)
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")

rows = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("subscribe", topic_in)
    .option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", 5000)
    .load()
)
copy = (
    rows.select("key", "value")
    .writeStream.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("topic", topic_out)
    .option("checkpointLocation", checkpoints)
    .trigger(availableNow=True)
    .start()
)
copy.awaitTermination()

back = (
    spark.read.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("subscribe", topic_out)
    .load()
)
counts = {r["key"].decode(): r["count"] for r in back.groupBy("key").count().collect()}
print("copied", sum(counts.values()), "records of", len(counts), "keys")
spark.stop()
