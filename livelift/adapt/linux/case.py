"""What every rule is given: both machines' facts and files, and the operator's policy."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable

import msgspec

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, MakeLink, WriteFile
from livelift.adapt.linux.trees import Tree, encode
from livelift.adapt.plan import Draft
from livelift.errors import UsageError
from livelift.model.facts import ServerFacts


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What facts cannot decide. ``network``: keep-target leaves the target its addresses, so that the operator's way to
    it survives; take-source gives the source's addresses to the target's cards. ``interfaces``: source card to target
    card, where the cards cannot be paired by their networks. ``addresses``: addresses of the source to cards of the
    target, which move with keep-target too, beside the target's own. ``not_expected``: services of the source that the
    moved system may come up without. The others: source where the target replaces the old server, target where both
    go on."""

    network: str = "keep-target"
    interfaces: dict[str, str] = {}
    addresses: dict[str, str] = {}
    hostname: str = "source"
    machine_id: str = "source"
    ssh_host_keys: str = "source"
    not_expected: tuple[str, ...] = ()


CHOICES = {
    "network": ("keep-target", "take-source"),
    "hostname": ("source", "target"),
    "machine_id": ("source", "target"),
    "ssh_host_keys": ("source", "target"),
}


def parse_policy(text: str) -> Policy:
    """A map file (TOML): the fields of `Policy`, [interfaces] as a table. UsageError for anything else."""
    remedy = "the keys are network, hostname, machine_id, ssh_host_keys, not_expected, [interfaces] and [addresses]"
    try:
        policy = msgspec.convert(tomllib.loads(text), Policy)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"map file: {error}", remedy=remedy) from None
    for field, allowed in CHOICES.items():
        if getattr(policy, field) not in allowed:
            raise UsageError(f"map file: {field} = {getattr(policy, field)!r}", remedy=f"it is {' or '.join(allowed)}")
    if policy.addresses and policy.network == "take-source":
        raise UsageError(
            "map file: [addresses] beside take-source, with which all of them move", remedy="leave out one of the two"
        )
    return policy


class Case:
    """``old``: the source's files, as they arrive in the staged root. ``new``: the target's, on the running machine."""

    def __init__(self, source: ServerFacts, target: ServerFacts, old: Tree, new: Tree, policy: Policy) -> None:
        self.source = source
        self.target = target
        self.old = old
        self.new = new
        self.policy = policy
        self.draft = Draft()

    @property
    def family(self) -> str:
        return self.source.release.family

    def write(
        self, rule: str, path: str, text: str, reason: str, inputs: Iterable[str] = (), always: bool = False
    ) -> None:
        """No edit where the file says this already, unless another edit replaces it before (``always``)."""
        data = encode(text)
        if always or self.old.contents.get(path) != data:
            self.draft.edit(
                f"{rule}/{path}",
                reason,
                WriteFile(path, data),
                inputs=inputs or (f"source:{path}",),
                before=self.old.lines(path),
            )

    def copy(self, rule: str, path: str, reason: str, origin: str = "") -> None:
        """The target's file, with its attributes; a link as a link."""
        origin = origin or path
        item = self.new.items[origin]
        inputs = (f"target:{origin}",)
        if item.kind == "link":
            if self.old.items.get(path) != item:
                self.draft.edit(f"{rule}/{path}", reason, MakeLink(path, item.text), inputs=inputs)
            return
        before = self.old.lines(path) or (("the source's file",) if self.old.has(path) else ())
        self.draft.edit(f"{rule}/{path}", reason, CopyFile(path, origin, item.size), inputs=inputs, before=before)

    def copy_tree(self, rule: str, path: str, reason: str, origin: str = "") -> None:
        origin = origin or path
        item = self.new.items[origin]
        self.draft.edit(
            f"{rule}/{path}",
            reason,
            CopyTree(path, origin, item.files, item.size),
            inputs=(f"target:{origin}",),
        )

    def delete(self, rule: str, path: str, reason: str) -> None:
        before = self.old.lines(path) or ("(not shown)",)
        self.draft.edit(f"{rule}/{path}", reason, DeleteFile(path), inputs=(f"source:{path}",), before=before)
