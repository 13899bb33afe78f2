"""Why a rule refuses something. Rules know no gRPC; a refusal is answered like any other MeshError."""

from __future__ import annotations

import copy

from cbmdhi.protocol.mesh_error import MeshError


class Refused(MeshError):
    """Its reason holds no personal data.

    path   such as `body.put_record.patient`, or `Observation.status` inside a resource
    index  which command of the group, when one is to blame
    """

    index: int | None = None

    def at(self, index: int | None) -> Refused:
        """The same, blamed on one command of a group."""
        blamed = copy.copy(self)
        blamed.index = index
        return blamed
