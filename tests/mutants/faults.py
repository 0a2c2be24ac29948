"""The seeded faults: each one a small patch that a tired engineer might commit, and the test that has to notice."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """``old`` occurs exactly once in ``file`` (below livelift/) and becomes ``new``; ``test`` (below tests/) must fail.

    ``keyword``: pytest's -k, to choose among a test's parameters.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    keyword: str = ""


MODEL = "merge/test_model.py::test_long_runs"
NAMES = "merge/test_names.py"

FAULTS = [
    # what is captured
    Fault(
        "one event is dropped",
        "source/follower.py",
        "                named.append(event)\n                continue",
        "                if self.events % 7:\n                    named.append(event)\n                continue",
        MODEL,
    ),
    Fault(
        "a rename pair is swapped",
        "merge/names.py",
        "Rename(oid, event.parent, event.name, event.new_parent, event.new_name, 0, victim)",
        "Rename(oid, event.new_parent, event.new_name, event.parent, event.name, 0, victim)",
        MODEL,
    ),
    Fault(
        "an exchange is two renames",
        "merge/names.py",
        "if i + 1 < len(events) and is_exchange(events[i], events[i + 1]):",
        "if False:",
        f"{NAMES}::test_exchange_is_one_record_and_no_content",
    ),
    Fault(
        "mv a b; mv b a is taken for an exchange",
        "merge/names.py",
        "        and first.child != second.child\n",
        "",
        f"{NAMES}::test_an_exchange_is_two_adjacent_renames_each_the_reverse_of_the_other",
    ),
    Fault(
        "events of a bracket are dropped",
        "source/follower.py",
        "        elif held.events:\n",
        "        elif not held.events:\n",
        "source/test_follower.py::test_names_of_a_directory_being_listed_wait",
    ),
    Fault(
        "late events are followed as if they were in order",
        "source/follower.py",
        "self.process(_late(e) for e in held.events)",
        "self.process(held.events)",
        f"{NAMES}::test_a_rename_that_waited_does_not_undo_what_came_after_it",
    ),
    Fault(
        "an overflow of held events is forgotten",
        "merge/brackets.py",
        "return Held([], True)",
        "return Held([], False)",
        "merge/test_brackets.py",
    ),
    Fault(
        "the gap of a lost volume is told before its walk",
        "source/follower.py",
        "        self.walk(0, True)  # 0: every root; before the gap, which closes when nothing is left to walk\n",
        "",
        "source/test_follower.py::test_lost_for_a_volume_walks_every_root_before_the_gap_is_open",
    ),
    Fault(
        "a merged event gets no second look",
        "capture/repeats.py",
        "        if name in self._names or name in self._older:",
        "        if False:",
        "capture/test_repeats.py",
    ),
    # names
    Fault(
        "a further hard link becomes a file of its own",
        "merge/names.py",
        "        elif a.is_dir or a.nlink == 1:",
        "        elif True:",
        f"{NAMES}::test_hard_links_over_several_directories",
    ),
    Fault(
        "a file being read under its first name is made twice",
        "source/follower.py",
        "if seen is not None and self._brackets.is_open(seen.oid) and self._journal.index.place(seen.oid) is None:",
        "if False:",
        f"{NAMES}::test_hard_links_over_several_directories",
    ),
    Fault(
        "limbo: what left the known tree is removed at once",
        "merge/names.py",
        "        yield Emit(Kind.RENAME, Rename(oid, parent, name, place, waiting))",
        "        yield from self.remove(parent, name)",
        f"{NAMES}::test_subtree_moves_from_a_walked_directory_into_one_not_yet_walked",
    ),
    Fault(
        "the log renames a directory into itself",
        "merge/names.py",
        "            if oid == directory:\n                return True",
        "            if oid == directory:\n                return False",
        f"{NAMES}::test_a_directory_moves_into_one_that_was_below_it",
    ),
    Fault(
        "an inode number that was used again is the old object",
        "merge/names.py",
        "        if places and self._tree.type_of(seen.oid) != stat.S_IFMT(a.mode):",
        "        if False:",
        f"{NAMES}::test_an_inode_number_is_used_again",
    ),
    Fault(
        "a stale directory descriptor after a rename",
        "source/live.py",
        "            if self.object_of(st) != oid:\n                raise Moved(oid)\n            return self._keep",
        "            return self._keep",
        "source/test_live.py::test_a_directory_that_moved_is_not_taken_for_the_one_that_has_its_name",
    ),
    Fault(
        "a limbo that is not empty is no obstacle to the end",
        "replay/progress.py",
        "if waiting := _in_limbo(top):",
        "if (waiting := _in_limbo(top)) and False:",
        "replay/test_names.py::test_limbo_and_finish",
    ),
    # content
    Fault(
        "a mark during the reading is not kept (the O_APPEND race)",
        "source/dirty.py",
        "                    mark = self._marks.pop(oid)",
        "                    mark = self._marks[oid]",
        "source/test_dirty.py::test_a_mark_during_the_reading_is_a_new_one",
    ),
    Fault(
        "a file is truncated at its size less one",
        "source/content.py",
        "    if size > old_size >= 0:\n        yield Part(Kind.TRUNCATE, size, 0)",
        "    if size > old_size >= 0:\n        yield Part(Kind.TRUNCATE, size - 1, 0)",
        "source/test_content.py::test_truncate_down_then_up",
    ),
    Fault(
        "a shrunk file is not cut",
        "source/content.py",
        "    if 0 <= size < old_size or old_size < 0:",
        "    if old_size < 0:",
        "source/test_content.py::test_truncate_down_then_up",
    ),
    Fault(
        "a punched hole is lost",
        "source/content.py",
        "            yield Part(Kind.PUNCH, first, min(run, size - first))",
        "            continue",
        "source/test_content.py::test_a_hole_and_zeros_are_not_the_same",
    ),
    Fault(
        "the last block of a run is not sent",
        "merge/blocks.py",
        "    for i in range(count + 1):",
        "    for i in range(count):",
        "merge/test_blocks.py",
    ),
    Fault(
        "digests outlive the content of a refolded record",
        "index/tree.py",
        '                    self.drop_blocks(getattr(record.body, "oid", 0))',
        "                    pass",
        "index/test_tree.py::test_refolding_the_spool_gives_the_same_index",
    ),
    Fault(
        "stamps ignore the change time",
        "model/entry.py",
        "return make_stamp(attributes.size, attributes.mtime, attributes.ctime)",
        "return make_stamp(attributes.size, attributes.mtime, attributes.mtime)",
        "index/test_tree.py::test_stamps_hold_the_change_time",
    ),
    # the log
    Fault(
        "payload CRCs are not checked",
        "log/batch.py",
        "if verify and crc32c(payload) != crc:",
        "if False:",
        "log/test_batch.py::test_damaged_payload_is_found_unless_told_not_to_look",
    ),
    Fault(
        "the hash chain is not checked",
        "log/segment.py",
        "    if _link(frame.before, frame.first_lsn, frame.records, heads, blob) != frame.chain:",
        "    if False:",
        "log/test_segment.py",
    ),
    Fault(
        "segments of another history are taken",
        "spool/chain.py",
        "if before is not None and (header.previous != before.seal() or first != before.last_lsn + 1):",
        "if before is not None and first != before.last_lsn + 1:",
        "spool/test_chain.py::test_a_segment_of_another_history_is_found",
    ),
    Fault(
        "what is acknowledged is deleted though the index lacks it",
        "spool/spool.py",
        "self._chain.below(min(self._acked, self._folded))",
        "self._chain.below(self._acked)",
        "source/test_journal.py::test_what_the_index_has_not_durably_stays_in_the_log",
    ),
    Fault(
        "a directory that moves between two listings is made twice",
        "source/walk_names.py",
        "                known.add(seen.oid)\n",
        "",
        "source/test_walk_names.py",
    ),
    Fault(
        "a directory keeps the time of the replay",
        "index/untimed.py",
        "                self.update((body.parent, body.new_parent))",
        "                pass",
        "index/test_tree.py::test_directories_whose_times_only_the_replay_has_set",
    ),
    Fault(
        "a resumed sender begins one LSN late",
        "log/batch.py",
        "    skip = lsn + 1 - batch.first_lsn",
        "    skip = lsn + 2 - batch.first_lsn",
        "log/test_batch.py::test_the_rest_of_a_batch",
    ),
    Fault(
        "the index is committed before the log is synced",
        "source/journal.py",
        "        with self.lock:\n            self.spool.sync()\n            self.index.commit()",
        "        with self.lock:\n            self.index.commit()\n            self.spool.sync()",
        "source/test_journal.py::test_commit_never_lets_the_index_know_more_than_the_synced_log",
    ),
    Fault(
        "a flush of the log leaves the newest segment out",
        "spool/chain.py",
        "        files += [os.dup(segment.fd) for segment in self.segments[-1:] if segment.dirty]\n",
        "",
        "spool/test_spool.py::test_sync_makes_segments_and_their_names_durable",
    ),
    Fault(
        "a spool that dropped content does not say whose",
        "source/journal.py",
        "                self.index.forget(oid)\n",
        "                pass\n",
        "source/test_journal.py::test_a_full_spool_drops_content_and_says_whose",
    ),
    Fault(
        "LSNs go back after the log was given up",
        "spool/spool.py",
        "lsn = max(self._chain.last_lsn, at_least) + 1",
        "lsn = self._chain.last_lsn + 1",
        "source/test_journal.py::test_collapse_goes_on_above_what_the_target_has",
    ),
    # the target
    Fault(
        "acknowledged before it is durable",
        "replay/progress.py",
        "        for fd in self._filesystems.values():\n            try:\n                syncfs(fd)",
        "        for fd in self._filesystems.values():\n            try:\n                pass",
        "replay/test_trouble.py::test_a_disk_that_loses_pages_at_a_checkpoint",
    ),
    Fault(
        "an xattr is lost",
        "replay/attributes.py",
        "    for key, value in a.xattrs:\n",
        "    for key, value in a.xattrs[1:]:\n",
        "replay/test_attributes.py::test_everything_at_once_and_back",
    ),
    Fault(
        "inode flags are not restored",
        "replay/attributes.py",
        "        _flags(hands, directory, name, fd, a.flags)\n\n\ndef change",
        "        pass\n\n\ndef change",
        "replay/test_attributes.py::test_everything_at_once_and_back",
    ),
    Fault(
        "times are set to the second",
        "replay/attributes.py",
        "os.utime(where, ns=(a.atime, a.mtime), follow_symlinks=fd >= 0)",
        "os.utime(where, (a.atime // 10**9, a.mtime // 10**9), follow_symlinks=fd >= 0)",
        "replay/test_attributes.py::test_everything_at_once_and_back",
    ),
    Fault(
        "a file with too many names is written to",
        "replay/content.py",
        "    if stat.S_ISREG(status.st_mode) and status.st_nlink <= max(nlink, 1):",
        "    if stat.S_ISREG(status.st_mode):",
        "replay/test_names.py::test_a_file_with_too_many_names_is_not_written_to",
    ),
    # verification, pairing, cutover
    Fault(
        "verification ignores content",
        "verify/compare.py",
        "if one.size == other.size and one.content != other.content:",
        "if False:",
        "verify/test_compare.py::test_every_field",
    ),
    Fault(
        "verification ignores ACLs and other xattrs",
        "verify/compare.py",
        "    if one.xattrs != other.xattrs:",
        "    if False:",
        "verify/test_compare.py::test_every_field",
    ),
    Fault(
        "equal troubles count as equal content",
        "verify/compare.py",
        "alike = {row for row in set(source) & set(target) if not _has_trouble(row)}",
        "alike = set(source) & set(target)",
        "verify/test_compare.py::test_equal_troubles_are_no_equality",
    ),
    Fault(
        "the pairing MAC is not compared",
        "identity/pairing.py",
        '            if not hmac.compare_digest(proof.mac, _mac(self._key, b"client", *bound)):',
        "            if False:",
        "identity/test_pairing.py::test_wrong_code_counts_down_to_void",
    ),
    Fault(
        "the target's proof is not compared",
        "identity/pairing.py",
        '    if not hmac.compare_digest(grant.mac, _mac(secret, b"server", *bound, grant.certificate, grant.ca)):',
        "    if False:",
        "identity/test_pairing.py::test_server_that_does_not_know_the_code_is_noticed",
    ),
    Fault(
        "the window of the channel has no bound",
        "transport/outbox.py",
        "if urgent or not self._bytes[lane] or self._bytes[lane] + size <= self._limit:",
        "if True:",
        "transport/test_outbox.py::test_full_lanes_block_until_something_was_sent",
    ),
    Fault(
        "a gap does not refuse the cut",
        "cutover/cutover.py",
        "            if not verdict.differences and not gaps:",
        "            if not verdict.differences:",
        "cutover/test_cutover.py::test_an_open_gap_refuses_the_cut",
    ),
    Fault(
        "a gap is closed in the log but not its object's stamp",
        "index/tree.py",
        "                if kind is Kind.GAP and body.oid:\n                    self.forget(body.oid)",
        "                pass",
        "source/test_journal.py::test_a_gap_is_in_the_log_and_makes_the_object_unsure",
    ),
    Fault(
        "the fence stays up after a failure",
        "cutover/cutover.py",
        "            self._fence.down()\n            self._is_up = False",
        "            self._is_up = False",
        "cutover/test_cutover.py::test_a_failure_at_any_step_lets_the_workload_go_within_a_second",
    ),
    Fault(
        "a refused attempt takes another one's fence down",
        "cutover/cutover.py",
        "        if self._is_up:\n            self._fence.down()",
        "        if True:\n            self._fence.down()",
        "cutover/test_cutover.py::test_an_attempt_that_is_refused_leaves_the_fence_of_another_alone",
    ),
    Fault(
        "a directory is believed though a stamp in it was too young",
        "verify/measure.py",
        "            if not kept:\n",
        "            if False:\n",
        "verify/test_directories.py::test_what_is_young_or_mapped_is_not_kept",
    ),
    # hives and the Windows adaptation
    Fault(
        "a log entry is believed without its checksum",
        "registry/logs.py",
        "        if marvin(log[at : at + 32]) != hash2 or marvin(body) != hash1:",
        "        if marvin(log[at : at + 32]) != hash2:",
        "registry/test_logs.py",
    ),
    Fault(
        "log entries may have a gap between them",
        "registry/logs.py",
        "            if expected and entry.sequence != expected:",
        "            if False:",
        "registry/test_logs.py",
    ),
    Fault(
        "a written hive counts too few users of a descriptor",
        "registry/writer.py",
        "        uses[security] += 1",
        "        uses[security] = 1",
        "registry/test_writer.py",
        "descriptors_are_shared",
    ),
    Fault(
        "class names are lost",
        "registry/writer.py",
        "self.cells.put(class_name) if class_name else NONE",
        "NONE",
        "registry/test_writer.py",
        "made_by_hand or any_tree",
    ),
    Fault(
        "data of four bytes is not put in place of its offset",
        "registry/writer.py",
        "        if size <= 4:\n",
        "        if size < 4:\n",
        "registry/test_writer.py",
        "four_bytes",
    ),
    Fault(
        "an override that keeps a boot driver off stays",
        "adapt/windows/start_override.py",
        "            bench.remove_key(id, reason, path)",
        "            pass",
        "adapt/windows/test_start_override.py",
    ),
    Fault(
        "oem numbers may collide",
        "adapt/windows/oem_numbers.py",
        "            taken = taken | {free}\n",
        "",
        "adapt/windows/test_oem_numbers.py",
    ),
    Fault(
        "a letter goes to any volume",
        "adapt/windows/mounted_devices.py",
        "        elif not is_fixed(theirs[to]):",
        "        elif False:",
        "adapt/windows/test_mounted_devices.py",
    ),
    Fault(
        "logs of the old hive stay beside the new one",
        "adapt/windows/hive_logs.py",
        r"(\.LOG[12]?|",
        r"(\.LOG[12]|",
        "adapt/windows/test_hive_logs.py",
    ),
    Fault(
        "an edit of the boot key is not noticed",
        "adapt/windows/identity.py",
        "        if not same_tree(before.find(path), after.find(path)):",
        "        if False:",
        "adapt/windows/test_identity.py",
    ),
    Fault(
        "an interrupted adaptation is planned anew",
        "cli/adapt_windows.py",
        "        if not editor.journal.records:\n            saved.keep(options.state, work)",
        "        if not editor.journal.records:\n            pass",
        "cli/test_adapt_windows_resume.py",
        "another_command",
    ),
    Fault(
        "a compressed directory makes new hives compressed",
        "edits/windows_copy.py",
        "        self._compress(keep, False)",
        "        pass",
        "edits/test_windows_copy.py",
        "new_files_so",
    ),
    # blind spots
    Fault(
        "files mapped writable are not found",
        "platform/linux/mapped.py",
        'rb"^([0-9a-f]+-[0-9a-f]+) .w.s ',
        'rb"^([0-9a-f]+-[0-9a-f]+) .wxs ',
        "platform/linux/test_mapped.py",
    ),
]
