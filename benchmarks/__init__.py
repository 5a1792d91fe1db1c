"""Backlogs drained by one worker on a real Kafka: Penstock beside other ways to do the same, interleaved in one run.

`python -m benchmarks` from the repository's root; `--help` tells the options, docs/benchmarks.md what is measured.

| module | what it holds |
|---|---|
| `records` | the records, the functions every candidate applies, what must come out |
| `penstock_pipeline`, `aiokafka_loop`, `faust_agent` | the candidates, each run as a process of its own |
| `candidates` | which candidates a workload has, and how each is started |
| `broker` | topics made and removed, the backlog written, the outputs read back and checked |
| `measure` | one run: start, first output, last output, processor time between them |
| `report` | the table and the JSON files |
"""
