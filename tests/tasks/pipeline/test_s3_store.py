"""The store on S3, and the photos too: the same items as on a disk, and nothing made twice."""

from pathlib import Path
from urllib.parse import urlsplit

import boto3

from storage.store import open_store
from tests.contents import content
from tests.model_fixtures import TinyModels
from tests.projects import make_project

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}


def test_a_store_and_photos_on_s3(s3_url: str, tmp_path: Path, tiny_models: TinyModels) -> None:
    """One story: first the store moves to S3, then the photos do."""
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    on_disk, on_s3 = project.prepare(), project.prepare(f"store.url='{s3_url}'")
    assert on_s3.version.uri.startswith(s3_url)
    assert on_s3.version.content_digest == on_disk.version.content_digest
    assert on_s3.computed() == on_disk.computed()
    for name in ("row_id", "sample_id", "view_id", "source_id", "prompts"):
        assert on_s3.rows[name].to_pylist() == on_disk.rows[name].to_pylist(), name
    disk_store = open_store(project.config().store.url)
    assert content(open_store(s3_url), cache=tmp_path / "cache") == content(disk_store)

    again = project.prepare(f"store.url='{s3_url}'")
    assert again.computed() == NOTHING
    assert not again.created

    client, bucket = boto3.client("s3"), urlsplit(s3_url).netloc
    for file in project.photos.iterdir():
        client.upload_file(str(file), bucket, f"photos/{file.name}")
    settings = (f"store.url='{s3_url}'", f"concepts.0.path='s3://{bucket}/photos'")
    moved = project.prepare(*settings)
    assert moved.computed() == NOTHING | {"scan": 1}, "bytes decide, not where they are"
    assert moved.rows["path"][0].as_py().startswith(f"s3://{bucket}/photos/")
    assert moved.version.content_digest == on_disk.version.content_digest

    client.put_object(Bucket=bucket, Key="photos/photo0.txt", Body=b"edited")
    edited = project.prepare(*settings)
    assert edited.computed() == NOTHING | {"prompts": 1, "text": 1}
