"""From captioned pictures to batches: read, measure, filter, store, load.

Rooms, lowest first: ``images`` (bytes to pixels), ``sources`` (what people have), ``dedup`` (repetitions),
``curation`` (what is kept, and why), ``dataset`` (shards and the manifest), ``loading`` (batches of a training step).
A room imports the rooms before it. Start with ``dataset/manifest.py``; ``docs/architecture.md`` follows one picture
through all of them.
"""
