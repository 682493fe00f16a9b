"""Which repository of the Hub to publish to."""

from dataclasses import dataclass, field

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

# Of the branches where a push is tried before it becomes current; they don't stay.
TRIAL_PREFIX = "fpig-push"


@dataclass(frozen=True)
class HubTarget:
    """
    Where to publish.

    Attributes:
        repo_id: `organisation/name`.
        revision: a branch, made if it is not there; the main one by default.
        private: whether a repository made now is private; a public one that exists is then refused.
        token: with the right to write; that of the login by default.
    """

    repo_id: str
    revision: str | None = None
    private: bool | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_repo_id("repo_id", self.repo_id)
        if self.revision is not None and (not self.revision or self.revision.startswith(TRIAL_PREFIX)):
            raise ValueError(
                f"`revision` is {self.revision!r}; name a branch, and none that begins with {TRIAL_PREFIX}, "
                "where pushes are tried"
            )

    @property
    def api(self) -> HfApi:
        """The client, with the token."""
        return HfApi(token=self.token)


def check_repo_id(name: str, repo_id: str) -> None:
    """
    Raises:
        ValueError: not `organisation/name`, or characters that the Hub does not allow.
    """
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise ValueError(
            f"`{name}` is {repo_id!r}; it must be `organisation/name`, where your user name will do for the "
            "organisation"
        )
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f"`{name}` is {repo_id!r}, which the Hub does not allow: {error}") from error


__all__ = ["TRIAL_PREFIX", "HubTarget", "check_repo_id"]
