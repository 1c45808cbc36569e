"""What belongs to which scope, found once for a whole page: asking the configuration for each of a thousand scopes would be slow. Pure."""

from collections import defaultdict
from collections.abc import Sequence

from gateway.picture import Picture
from schemas.compliance import Breach
from schemas.config import Configuration
from schemas.topology import Asset, Circuit, Group, Scope


class ScopeIndex:
    """Groups, assets and breaches by scope, and the scope of each circuit, as they are in one configuration and one picture."""

    def __init__(self, picture: Picture, config: Configuration) -> None:
        self._groups: defaultdict[str, list[Group]] = defaultdict(list)
        self._assets: defaultdict[str, list[Asset]] = defaultdict(list)
        self._breaches: defaultdict[str, list[Breach]] = defaultdict(list)
        for group in config.groups:
            self._groups[group.scope_id].append(group)
        for asset in config.assets:
            self._assets[asset.scope_id].append(asset)
        for breach in sorted(picture.breaches.values(), key=lambda breach: breach.first_quarter, reverse=True):
            self._breaches[breach.scope_id].append(breach)
        self.scopes = {scope.id: scope for scope in config.scopes}
        self._circuits = {circuit.id: circuit for circuit in config.circuits}
        self._scope_of = {scope.circuit_id: scope for scope in config.scopes if scope.circuit_id is not None}

    def groups(self, scope_id: str) -> Sequence[Group]:
        """The groups bound to a scope, in the configuration's order."""
        return self._groups.get(scope_id, ())

    def assets(self, scope_id: str) -> Sequence[Asset]:
        """The assets of a scope, in the configuration's order."""
        return self._assets.get(scope_id, ())

    def breaches(self, scope_id: str) -> Sequence[Breach]:
        """The breaches of a scope that the picture keeps, newest first."""
        return self._breaches.get(scope_id, ())

    def circuit(self, scope: Scope) -> Circuit | None:
        """The circuit of a scope, if it has one that is configured."""
        return None if scope.circuit_id is None else self._circuits.get(scope.circuit_id)

    def scope_of(self, circuit_id: str) -> Scope | None:
        """The scope that stands for a circuit."""
        return self._scope_of.get(circuit_id)
