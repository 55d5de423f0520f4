"""The safeguards, and how each is taken away: what is written in a file, what to write instead, and the test that has to fail.

A text to replace has to stand in its file exactly once. Tests are named as `cargo test` names them, behind the arguments that
build no more than them.
"""

COLLECTOR = ["-p", "collector", "--lib"]
FUNCTIONS = ["-p", "functions", "--test", "end_to_end"]
SIMULATION = ["-p", "simulation", "--test", "slice"]
DEVO = ["-p", "devo", "--test", "syslog"]

STORE = "shared/collector/src/store.rs"
LEASE = "shared/collector/src/store/lease.rs"
DELIVER = "shared/collector/src/deliver.rs"
SEEN = "shared/collector/src/seen.rs"
WINDOW = "shared/collector/src/window.rs"
STREAM = "shared/collector/src/stream.rs"
FILE = "shared/collector/src/stream/file.rs"
CLIENT = "shared/mimecast/src/client.rs"

SEND = "let outcome = self.send(batch, &mut sent.marks, &mut refused).await;"

# (safeguard, file, text, instead, arguments, test)
MUTATIONS = [
    ("a write needs the newest epoch", LEASE, '"epoch = :epoch AND commits < :number"', '"commits < :number"',
     COLLECTOR, "store::tests::a_stale_holder_writes_nothing"),
    ("a write counts once", LEASE, '"epoch = :epoch AND commits < :number"', '"epoch = :epoch"',
     COLLECTOR, "store::tests::a_request_that_arrives_again_and_late_does_nothing_more"),
    ("an invocation takes one lease", STORE, "AND (attribute_not_exists(#owner) OR #owner <> :owner)", "",
     COLLECTOR, "store::tests::a_request_that_arrives_again_and_late_does_nothing_more"),
    ("a lease shuts others out", STORE, "OR lease_until < :now)", "OR lease_until < :now OR lease_until > :now)",
     COLLECTOR, "store::tests::one_holder_at_a_time"),
    ("the checkpoint moves after Devo has accepted", DELIVER, SEND,
     "self.lease.commit(Commit { state: any.then_some(&portion.state), ..Commit::default() }, now).await?;\n" + SEND,
     FUNCTIONS, "bad_input::devo_faults_lose_nothing_and_repeat_nothing"),
    ("the same, found by the simulation", DELIVER, SEND,
     "self.lease.commit(Commit { state: any.then_some(&portion.state), ..Commit::default() }, now).await?;\n" + SEND,
     SIMULATION, "every_promise_holds_for_every_seed"),
    ("marks are written after Devo has accepted", DELIVER, SEND,
     "self.lease.commit(Commit { marks: portion.marks.clone(), ..Commit::default() }, now).await?;\n" + SEND,
     FUNCTIONS, "bad_input::devo_faults_lose_nothing_and_repeat_nothing"),
    ("what Devo took before it failed is recorded", DELIVER, "Commit { marks: vec![sent], dead", "Commit { marks: Vec::new(), dead",
     FUNCTIONS, "regressions::a_first_run_that_devo_cuts_short_repeats_nothing"),
    ("a dead letter is there before its mark", LEASE, "        // The state moves with the last one.\n",
     "        writes.reverse();\n", COLLECTOR, "store::tests::no_mark_is_written_before_the_dead_letter_it_stands_for"),
    ("equal events are numbered", SEEN, "self.judge(numbered(hash, count))", "self.judge(numbered(hash, count * 0))",
     COLLECTOR, "seen::tests::delivered_is_the_largest_reading"),
    ("a page token keeps its page size", WINDOW, 'json!({"pageSize": size, "pageToken": token})',
     'json!({"pageSize": self.page_size() + size * 0, "pageToken": token})',
     FUNCTIONS, "windows::a_page_token_keeps_its_window_and_page_size"),
    ("a window closes with its last page", WINDOW, "let goes_on = !rows.is_empty() || (missing", "let goes_on = false && (missing",
     FUNCTIONS, "windows::a_page_token_keeps_its_window_and_page_size"),
    ("moved rows are read again", WINDOW, "if !moved || self.doubts >= most {", "if !moved || self.doubts >= most || true {",
     FUNCTIONS, "windows::late_rows_that_move_the_pages_double_nothing"),
    ("a window begins an overlap earlier", WINDOW, "kept((begin - overlap).max(since)), end.min(", "kept(begin.max(since)), end.min(",
     FUNCTIONS, "incremental::late_events_within_the_overlap_arrive"),
    ("a page of files closes when each is delivered", FILE, "answer.unfinished = Some(reason);", "drop((&answer, reason));",
     FUNCTIONS, "regressions::links_refused_for_a_while_lose_no_file"),
    ("a document that may be cut is asked for again", FILE, "&& self.may_ask_again(inner, mark)",
     "&& self.may_ask_again(inner, mark) && false", FUNCTIONS, "regressions::a_plain_document_that_is_cut_on_its_way_is_asked_for_again"),
    ("an answer that says nothing moves no start", STREAM, "(position.token.is_some() || !answer.unreadable)", "true",
     FUNCTIONS, "regressions::an_empty_first_answer_is_not_taken_for_nothing"),
    ("broken files are kept by their beginning", STREAM, "LARGEST_LETTER: u64 = 32 << 20", "LARGEST_LETTER: u64 = 1 << 40",
     FUNCTIONS, "hostile::a_large_file_that_stays_broken_is_a_dead_letter_with_its_beginning"),
    ("redirects are not followed", CLIENT, ".redirect(reqwest::redirect::Policy::none())",
     ".redirect(reqwest::redirect::Policy::default())", FUNCTIONS, "hostile::a_redirect_to_another_host_is_not_followed"),
]
