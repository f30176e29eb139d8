"""Decisions on a data set of any size: the same fates as ``decisions.decide``, in tasks that each hold a part.

Rows are looked at twice over: by *chunk*, as they lie in the source, and by *partition*, where those meet that may
repeat each other. Between the two, tasks write their rows sorted into buckets, one Parquet file per task (`buckets`).
A task whose file is there is done (`workspace`), so that a job that was stopped, at any point, goes on from there.
No task holds more than a chunk or a few partitions, and none of the results depends on the number of partitions:

1. `row_rules`: rules that look at one row; a chunk at a time.
2. `repeats`: rows with the same pixels or captions meet in a partition; the preferred one stays.
3. `looks`: what near duplicates are compared by; of pictures that no comparison tells apart the preferred one goes on,
   and all of these are brought into one order of preference.
4. `pairs`: each partition of that order is compared with each other one; `components` joins what hangs together.
5. `near`: within what hangs together, the decision of ``dedup.duplicates``, with the same blocks.
"""
