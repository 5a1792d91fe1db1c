"""Penstock beside other ways to do the same, interleaved in one run on a real Kafka, every output verified.

`python -m benchmarks WORKLOAD` from the repository's root; `--help` tells the options, docs/benchmarks.md what is
measured.

| module | what it holds |
|---|---|
| `workloads` | what is done to which records, by whom |
| `candidates`, `java` | the candidates, and how each is started; their programs are in `peers/` |
| `records`, `backlog`, `checks` | what flows, what goes in, what must come out (by Polars) |
| `broker` | topics made and removed, the backlog written, the outputs read back |
| `harness` | candidates in turns over rounds |
| `measure` | one run over a backlog: first output, last output, processor time between them |
| `latency`, `load` | one run at a steady rate, and the processes that send and read |
| `restore`, `flights`, `micro` | a table from its changelog; the flights job; one more step |
| `processes` | processor time and memory from /proc |
| `runs`, `report` | figures; the table in the terminal and the JSON files |
| `page`, `plot` | the tables and plots in docs/benchmarks.md |
| `guard` | the ratio to the plain loop, beside the committed one |
| `brokers/` | the embedded broker beside Kafka, `python -m benchmarks.brokers` |
| `startup`, `rolling` | start and stop on both brokers, and a rolling restart: commands of their own |
"""
