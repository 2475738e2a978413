"""What can go wrong with a store.

StorageError
├── NotFoundError            an object, a version or the store itself is not there
├── AlreadyExistsError       an immutable object would have been overwritten
├── InUseError               others work with the store just now, and must be left alone
├── CorruptError             bytes are there, but not the ones that were written
└── UnsupportedStoreError    the place cannot hold a store (scheme, format, no exclusive create)
"""


class StorageError(Exception):
    """Base of everything the store raises."""


class NotFoundError(StorageError):
    """An object, a version or the store itself is not there."""


class AlreadyExistsError(StorageError):
    """An immutable object is there already; nothing was overwritten."""


class InUseError(StorageError):
    """Others work with the store just now, and must be left alone."""


class CorruptError(StorageError):
    """The bytes found are not the bytes that were written."""


class UnsupportedStoreError(StorageError):
    """This place or this format cannot be used as a store."""
