"""Make a bucket on the S3 server of the environment, if it is not there: ``python -m infra.bucket <name>``."""

import sys
from collections.abc import Sequence

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def make_bucket(name: str) -> bool:
    """Make the bucket unless it is ours already.

    Returns:
        Whether it was made now.

    Raises:
        OSError: The server refused, or nobody answered.
    """
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    try:
        client.create_bucket(Bucket=name)
    except client.exceptions.BucketAlreadyOwnedByYou:
        return False
    except (ClientError, BotoCoreError) as error:
        raise OSError(f"cannot make the bucket {name!r}: {error}") from error
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    names = list(sys.argv[1:] if arguments is None else arguments)
    if len(names) != 1:
        print("usage: python -m infra.bucket <name>", file=sys.stderr)
        return 2
    try:
        print(f"bucket {names[0]}: {'made' if make_bucket(names[0]) else 'was there'}")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
