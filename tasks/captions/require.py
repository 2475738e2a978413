"""Require: what can be known to make captions impossible before anything has been scanned."""

import pyarrow as pa

from tasks.captions.generated import captioning_concepts, committed_answers
from tasks.captions.model import Captioner, recorded_digest, require_model, survey
from tasks.config.models import Config
from tasks.stage import Context


def require_captioners(config: Config) -> None:
    """Sees whether the models of a configuration could caption.

    A model that has answered before is not asked for: perhaps no caption is missing.

    Raises:
        CaptionerError: a model is new to the store, and no server can let it caption; or servers
            have different models under its name.
    """
    auto_pull: dict[Captioner, bool] = {}
    for crops in captioning_concepts(config).values():
        captioner = Captioner.of(crops)
        auto_pull[captioner] = auto_pull.get(captioner, False) or crops.caption_auto_pull
    answers: pa.Table | None = None
    for captioner, may_pull in auto_pull.items():
        found = survey(captioner)
        if answers is None:
            answers = committed_answers(Context(config, dry_run=True))
        if recorded_digest(captioner, answers) is None:
            require_model(captioner, found, auto_pull=may_pull)
