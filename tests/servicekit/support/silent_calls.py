"""Calls that say nothing, and what their callers are told."""

from typing import Final

import grpc

from tests.support.grpc.echo import SERVICE

LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]


CHECK: Final = "/grpc.health.v1.Health/Check"


WATCH: Final = "/grpc.health.v1.Health/Watch"


REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


ECHO: Final = f"/{SERVICE}/Echo"


OVERDUE: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_OVERDUE", True)


CROWDED: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", True)
