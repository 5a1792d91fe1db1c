"""A table that is filled from a topic; its changelog is written by the benchmark."""

import os

from penstock.pipelines import Pipeline, Topic

NAME = os.environ.get("RESTORE_NAME", "restore")
source = Topic(f"{NAME}-source", key=bytes, value=bytes, partitions=4)
pipeline = Pipeline(NAME)
rows = pipeline.group("g").table("rows", source)
