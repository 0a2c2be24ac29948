"""The listing of a tree, and the tree that will be."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, RenameFile
from livelift.adapt.plan import Draft
from livelift.adapt.windows.files import FileFact, FileView, same_content
from livelift.adapt.windows.planned import planned_tree

VIEW = FileView([FileFact("Windows/INF/Oem1.inf"), FileFact("Windows/a/b/c"), FileFact("Windows/a/d")], ["Windows/INF"])


def test_case_does_not_matter() -> None:
    found = VIEW.get("windows/inf/OEM1.INF")
    assert found is not None and found.path == "Windows/INF/Oem1.inf"
    assert list(VIEW.directory("WINDOWS/inf")) == ["OEM1.INF"]
    assert {name: [f.path for f in files] for name, files in VIEW.subtrees("Windows/A").items()} == {
        "B": ["Windows/a/b/c"]
    }


def test_absence_says_something_only_where_everything_was_listed() -> None:
    assert VIEW.knows("windows/inf/none.inf") and not VIEW.knows("Windows/INFX/a") and not VIEW.knows("Windows/a/e")


def test_equal_without_digest_is_not_equal() -> None:
    assert same_content(FileFact("a", 1, "x"), FileFact("b", 1, "x"))
    assert not same_content(FileFact("a", 1), FileFact("b", 1))


def test_the_planned_tree() -> None:
    source = FileView([FileFact("W/a", 1, "s"), FileFact("W/b", 1, "s"), FileFact("W/c", 1, "s")])
    target = FileView([FileFact("W/a", 2, "t"), FileFact("W/store/p/x.sys", 3, "t"), FileFact("W/store/pq/y", 1, "t")])
    draft = Draft()
    draft.edit("1", "r", RenameFile("w/B", "W/e"))
    draft.edit("2", "r", DeleteFile("w/C"))
    draft.edit("3", "r", CopyFile("W/a", "W/a", 2, "t"))
    draft.edit("4", "r", CopyTree("W/store/p", "W/store/p", 1, 3))
    tree = planned_tree(draft.plan(""), source, target, ("W",))
    assert sorted((f.path, f.digest) for f in tree) == [("W/a", "t"), ("W/e", "s"), ("W/store/p/x.sys", "t")]
