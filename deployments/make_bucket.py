"""Make the bucket of a store unless it is there.

python -m deployments.make_bucket NAME

Address and credentials come from the AWS variables.
"""

import sys

import s3fs


def make_bucket(name: str) -> bool:
    """Makes the bucket; False when it was there."""
    server = s3fs.S3FileSystem()
    if server.exists(name):
        return False
    server.mkdir(name)
    return True


if __name__ == "__main__":
    made = make_bucket(sys.argv[1])
    sys.stderr.write(f"bucket {sys.argv[1]}: {'made' if made else 'was there'}\n")
