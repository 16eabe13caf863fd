"""The options that every command takes, and the client they lead to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from choregos.foundation.errors import NotFound
from choregos.foundation.settings import Environment, load_environment

if TYPE_CHECKING:
    from choregos.client import Client

_GROUP = Group("Options of every command", sort_key=100)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, slots=True)
class Session:
    """Where the server is, and which namespace is meant.

    Attributes:
        namespace: None: the kubeconfig's.
        like_kubectl: mean the server that kubectl means; what the plugin `kubectl choregos` says.
    """

    namespace: Annotated[
        str | None, Parameter(name=("--namespace", "-n"), help="Namespace; by default the kubeconfig's.")
    ] = None
    kubeconfig: Annotated[
        Path | None, Parameter(help="Kubeconfig; by default the data directory's, then $KUBECONFIG.")
    ] = None
    context: Annotated[str, Parameter(help="Context of the kubeconfig; by default its current one.")] = ""
    server: Annotated[str, Parameter(help="URL of another API server of the same fleet than the kubeconfig's.")] = ""
    data_dir: Annotated[
        Path | None, Parameter(help="Data directory of `choregos up`; by default $CHOREGOS_DATA_DIR, then .choregos.")
    ] = None
    like_kubectl: Annotated[bool, Parameter(show=False)] = False

    @property
    def environment(self) -> Environment:
        return load_environment()

    @property
    def data_directory(self) -> Path:
        return Path.cwd() / self.data_dir if self.data_dir else self.environment.data_directory

    def kubeconfigs(self) -> list[Path]:
        """The files to read, in order."""
        from choregos.client.client import kubeconfig_paths

        if self.kubeconfig is not None:
            return [self.kubeconfig]
        if self.data_dir is not None:
            return [self.data_directory / "kubeconfig"]
        if self.like_kubectl:
            return [*self.environment.kubeconfigs] or [self.environment.home / ".kube" / "config"]
        return kubeconfig_paths(self.environment)

    def connect(self) -> Client:
        """A client for the server that is meant.

        Raises:
            NotFound: there is no kubeconfig; says how to get one.
            Invalid: it cannot be used.
        """
        from choregos.client import Client
        from choregos.security.kubeconfig import load_kubeconfig

        try:
            access = load_kubeconfig(self.kubeconfigs(), context=self.context)
        except NotFound as error:
            raise NotFound(
                f"{error}. Start a fleet here with `choregos up`, or say where one is with --data-dir, --kubeconfig, "
                "$CHOREGOS_DATA_DIR or $KUBECONFIG."
            ) from error
        return Client(replace(access, server=self.server) if self.server else access)
