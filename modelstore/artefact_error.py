"""Defines the error of a model that must not be served."""


class ArtefactError(Exception):
    """An artefact that must not be served.

    Attributes:
        reason: A short tag for metrics, such as `checksum`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
