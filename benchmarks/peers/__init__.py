"""The candidates: each a program of its own that reads its names from the environment.

| module | what |
|---|---|
| `penstock_pipeline` | every program as a group of one pipeline |
| `aiokafka_loop`, `confluent_loop` | what little the clients alone need; `steps` is what they do with a batch |
| `faust_agents`, `quix_app`, `bytewax_flow`, `kafka_streams/` | the peers, written as their documentation recommends |

$BENCH_PROGRAM names the program, $BENCH_BROKER the bootstrap servers, $BENCH_SOURCE, $BENCH_TABLE and $BENCH_OUT the
topics, $BENCH_DATA a folder, and $BENCH_RUN a name that no other run has, for groups and internal topics.
"""
