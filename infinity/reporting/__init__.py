"""One page and one JSON file that say how a run went. Knows no job: plain summaries come in, files go out."""
