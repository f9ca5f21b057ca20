"""The developers' benchmarks: a real Kafka, a real API server, each figure beside a baseline of the same run.

`make bench` runs `python -m benchmarks`. One module for each row of its table, named as the row; `parts` starts what
they run on, `headrace.bench` has what `headrace bench` measures on other people's clusters too.
"""
