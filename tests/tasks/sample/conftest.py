from tests.model_fixtures import tiny_models

__all__ = ["tiny_models"]
