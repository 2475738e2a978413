"""What can be refused before any process is started and any library is loaded."""

from tasks.train.formats import FORMAT_METHODS
from tasks.train.precision import check_precision
from tasks.train.spec import TrainSpec


def check_spec(spec: TrainSpec) -> None:
    """ValueError when a run cannot work as configured."""
    config = spec.config
    if spec.store.startswith("memory:"):
        raise ValueError(
            f"store {spec.store!r} lives in this process alone, and training runs in processes of "
            "its own. Use a folder or an s3:// store."
        )
    if not config.parts.denoiser.train:
        raise ValueError("parts.denoiser.train is false: nothing is trained. Set it to true.")
    if config.parts.text_encoder_1.train or config.parts.text_encoder_2.train:
        raise ValueError(
            "parts.text_encoder_1/2.train is true: training text encoders is not supported. "
            "Set it to false."
        )
    check_precision(config.train.train_dtype, config.train.device)
    _check_output(config.model.output_format, config.train.method.kind)


def _check_output(output_format: str, method: str) -> None:
    if FORMAT_METHODS.get(output_format) == method:
        return
    allowed = [name for name, kind in FORMAT_METHODS.items() if kind == method]
    raise ValueError(
        f"model.output_format = {output_format!r} cannot hold what train.method.kind = {method!r} "
        f"trains. Allowed: {', '.join(allowed)}."
    )
