"""Stages as Ray jobs on a running cluster: the process that started them only watches, and may come and go.

Start with `submit`, which runs where the stage was asked for; `entry` runs on the cluster. Both talk through files in
the folder ``job`` of the stage, so a bucket or a shared file system is all that they need in common. May import
`infinity.jobs.registry` and what is below it.
"""
