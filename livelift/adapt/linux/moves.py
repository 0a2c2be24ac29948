"""Which addresses of the source the plan gives to the target's cards."""

from __future__ import annotations

from livelift.adapt.linux.case import Case, Policy
from livelift.adapt.linux.network import pair_cards
from livelift.adapt.linux.service_addresses import chosen
from livelift.adapt.linux.trees import Tree
from livelift.model.facts import ServerFacts


def moves(source: ServerFacts, target: ServerFacts, policy: Policy) -> tuple[tuple[str, str], ...]:
    """(address with prefix, the source's interface) of what the cutover takes from the source; with keep-target those
    that the map file names. Addresses that are assigned dynamically, and those of the link alone, are nobody's to
    move."""
    if policy.network != "take-source":
        return tuple((one.address, one.held) for one in chosen(source, target, policy.addresses)[0])
    pairs = pair_cards(Case(source, target, Tree({}, {}), Tree({}, {}), policy))
    return tuple(
        (address, old.name)
        for old, _ in pairs
        for address in old.static
        if not address.lower().startswith("fe80:")
    )
