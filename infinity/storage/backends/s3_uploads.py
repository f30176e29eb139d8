"""Uploads to a bucket in parts that were begun and did not end: their parts are paid for until they are aborted."""

from __future__ import annotations

from contextlib import suppress

from infinity.storage.backends.s3 import below, client, explained, split
from infinity.storage.outages import patiently


@patiently
def list_uploads(uri: str) -> list[tuple[str, str, int, float]]:
    """Return (key relative to the prefix, id, bytes, beginning in seconds since 1970) of uploads that did not end."""
    bucket, prefix = below(uri)
    found = []
    with explained("list the uploads below", uri):
        for page in client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for upload in page.get("Uploads", []):
                key, id_ = upload["Key"], upload["UploadId"]
                parts = client().get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=id_)
                size = sum(part["Size"] for each in parts for part in each.get("Parts", []))
                found.append((key[len(prefix) :], id_, size, upload["Initiated"].timestamp()))
    return sorted(found)


def abort_upload(uri: str, upload: str) -> None:
    """Forget an upload that did not end, given the URI of its file and its id; one that is gone is no error."""
    bucket, key = split(uri)
    with explained("abort the upload of", uri), suppress(client().exceptions.NoSuchUpload):
        client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
