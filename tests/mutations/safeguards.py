"""The safeguards, and how each is taken away: what is written in a file, what to write instead, and the test that has to fail.

A text to replace has to stand in its file exactly once. Tests are named as `cargo test` names them, behind the arguments that
build no more than them.
"""

COLLECTOR = ["-p", "collector", "--lib"]
MIMECAST = ["-p", "mimecast", "--lib"]
SYSLOG = ["-p", "devo", "--test", "syslog"]
DEVO = ["-p", "devo", "--lib"]
FUNCTIONS = ["-p", "functions", "--test", "end_to_end"]
OPERATOR = ["-p", "mimecast-devo", "--test", "operator"]
SIMULATION = ["-p", "simulation", "--test", "slice"]

STORE = "shared/collector/src/store.rs"
LEASE = "shared/collector/src/store/lease.rs"
LETTERS = "shared/collector/src/store/letters.rs"
SENT = "shared/collector/src/sent.rs"
COLLECTOR_PROCESS = "shared/collector/src/process/collector.rs"
DELIVER = "shared/collector/src/deliver.rs"
SEEN = "shared/collector/src/seen.rs"
WINDOW = "shared/collector/src/read/window.rs"
PLAN = "shared/collector/src/read/window/plan.rs"
PAGES = "shared/collector/src/read/window/pages.rs"
QUESTION = "shared/collector/src/read/window/question.rs"
ANSWER = "shared/collector/src/read/window/answer.rs"
SECOND = "shared/collector/src/read/window/second.rs"
ROWS = "shared/collector/src/read/window/rows.rs"
STREAM = "shared/collector/src/read/stream.rs"
LINKS = "shared/collector/src/read/stream/links.rs"
ANSWERS = "shared/collector/src/read/stream/answers.rs"
FILE = "shared/collector/src/read/file.rs"
RELEASE = "functions/src/release.rs"
REJECTIONS = "functions/src/rejections.rs"
HTTPS = "shared/https/src/lib.rs"
TRANSPORT = "shared/devo/src/transport.rs"
PROBE = "shared/devo/src/http/probe.rs"
HEALTH = "local/src/health.rs"
VERIFY = "local/src/verify.rs"
RESET = "shared/collector/src/reset.rs"
WAY_SYSLOG = "shared/devo/src/syslog.rs"
SEARCH = "shared/devo/src/http/search.rs"
LISTING = "shared/mimecast/src/listing.rs"
READ_ERROR = "shared/mimecast/src/error.rs"

SEND = "let outcome = self.send(part, &mut sent, &mut refused).await;"

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
     "self.lease.commit(Commit { state: batch.state.as_ref(), ..Commit::default() }, now).await?;\n" + SEND,
     FUNCTIONS, "bad_input::devo_faults_lose_nothing_and_repeat_nothing"),
    ("the same, found by the simulation", DELIVER, SEND,
     "self.lease.commit(Commit { state: batch.state.as_ref(), ..Commit::default() }, now).await?;\n" + SEND,
     SIMULATION, "every_promise_holds_for_every_seed"),
    ("marks are written after Devo has accepted", DELIVER, SEND,
     "let early = Some(Marks { stamp: batch.stamp.clone(), marks: batch.marks.clone() });\n"
     "self.lease.commit(Commit { marks: early, ..Commit::default() }, now).await?;\n" + SEND,
     FUNCTIONS, "bad_input::devo_faults_lose_nothing_and_repeat_nothing"),
    ("what Devo took before it failed is recorded", DELIVER, "let marks = Marks { stamp: stamp(now), marks: sent };",
     "let marks = Marks { stamp: stamp(now), marks: Vec::new() };",
     FUNCTIONS, "regressions::a_first_run_that_devo_cuts_short_repeats_nothing"),
    ("a dead letter is there before its mark", LEASE, "        // The state moves with the last one.\n",
     "        writes.reverse();\n", COLLECTOR, "store::tests::no_mark_is_written_before_the_dead_letter_it_stands_for"),
    ("equal events are numbered", SEEN, "let mark = numbered(hash, *count);", "let mark = numbered(hash, *count * 0);",
     COLLECTOR, "seen::tests::delivered_is_the_largest_reading"),
    ("the second between two slices is in both", SEEN, "|| self.before.contains(&mark) || self.kept", "|| self.kept",
     SIMULATION, "every_promise_holds_for_every_seed"),
    ("a slice that overflows is cut", ANSWER, "&& page.total != Some(page.rows.len() as u64) {\n            return Ok(false);",
     "&& page.total != Some(page.rows.len() as u64) {\n            return Ok(true);",
     FUNCTIONS, "field_cases::windows::totals_that_change_from_page_to_page_hold_nothing_up"),
    ("the pages of a second agree", SECOND, "if reading.agrees() || reading.broken", "if true || reading.broken",
     FUNCTIONS, "field_cases::windows::page_tokens_that_are_refused_for_a_while_hide_no_row"),
    ("a refused page token is tried again", QUESTION, "const REFUSALS: u32 = 3;", "const REFUSALS: u32 = 1;",
     FUNCTIONS, "field_cases::windows::a_page_token_that_is_refused_once_hides_no_row"),
    ("what is behind is read again", PLAN, "unwrap_or(begin - overlap).max(since)).min(begin);",
     "unwrap_or(begin - overlap).max(since)).max(begin);",
     FUNCTIONS, "incremental::late_events_within_the_overlap_arrive"),
    ("a slice has no more pages than there is time for", PAGES, ".filter(is_little).filter(has_time)", ".filter(is_little)",
     FUNCTIONS, "field_cases::windows::a_slice_with_more_pages_than_a_run_has_time_for_is_read_in_shorter_ones"),
    ("what is new comes before what is read again", PLAN,
     "self.slices(new).await?;\n            self.slices(again).await?;", "self.slices(again).await?;\n            self.slices(new).await?;",
     FUNCTIONS, "field_cases::windows::what_is_new_does_not_wait_for_what_is_read_again"),
    ("the border of what is read again is known", WINDOW, "if slice.0 == self.again_to {", "if slice.0 == slice.1 {",
     FUNCTIONS, "field_cases::windows::a_row_at_the_begin_of_what_is_new_comes_once"),
    ("the oldest day is asked for", LINKS, "self.start_margin = A_DAY;", "self.start_margin = TimeDelta::zero();",
     FUNCTIONS, "field_cases::streams::what_was_published_on_the_oldest_day_arrives_or_is_a_gap"),
    ("a line is to blame only when others pass", SEARCH, "self.alone.push(self.at);", "self.again.push(self.at);",
     DEVO, "http::search::tests::a_refusal_of_everything_blames_nothing"),
    ("marks reach back to what is read again", ROWS, "map_or(slice.0, |again| again.min(slice.0));", "map_or(slice.0, |_| slice.0);",
     FUNCTIONS, "field_cases::windows::what_is_read_again_behind_what_is_new_is_known"),
    ("only an answer with a file gives a token", LINKS, "            if count > 0 {\n                last", "            if true {\n                last",
     FUNCTIONS, "field_cases::streams::one_dead_answer_among_good_ones_loses_no_file"),
    ("a feed is listed by date each day", STREAM, "listed.date_naive() != now.date_naive()\n", "false\n",
     SIMULATION, "every_promise_holds_for_every_seed"),
    ("a silent feed is listed by date", STREAM, ">= SILENCE", ">= SILENCE * 100", FUNCTIONS,
     "field_cases::streams::a_file_that_no_token_shows_arrives_by_date"),
    ("a file that cannot be had is that file's trouble", LINKS,
     "if self.misses >= OUT_OF_REACH { Err(error.into()) } else { Ok(()) }", "Err(error.into())", FUNCTIONS, "field_cases::files::a_link_that_cannot_be_had_is_in_no_other_files_way"),
    ("behind a full page the end of a listing is doubted", LINKS, "by_date && was_full &&", "false && was_full &&",
     FUNCTIONS, "field_cases::streams::a_dead_token_in_the_listing_by_date_ends_it_no_sooner"),
    ("what is broken in one run is tried in another", STREAM, "self.aside_before.contains(path)", "!path.is_empty()",
     FUNCTIONS, "bad_input::a_file_that_stays_broken_is_a_dead_letter_and_the_others_arrive"),
    ("a file is gone on with where it was left", STREAM, "self.position.places.insert(place.clone(), file.place);",
     "let _ = &place;", FUNCTIONS, "field_cases::streams::a_file_that_is_left_in_its_middle_for_others_is_gone_on_from"),
    ("a document that may be cut is asked for again", STREAM, "let doubt = if checks {", "let doubt = if false && checks {",
     FUNCTIONS, "regressions::a_plain_document_that_is_cut_on_its_way_is_asked_for_again"),
    ("an answer that says nothing moves no start", ANSWERS, "if self.position.token.is_some() || !unreadable {",
     "if true || !unreadable {", FUNCTIONS, "regressions::an_empty_first_answer_is_not_taken_for_nothing"),
    ("broken files are kept by their beginning", FILE, "LARGEST_LETTER: u64 = 32 << 20", "LARGEST_LETTER: u64 = 1 << 40",
     FUNCTIONS, "hostile::a_large_file_that_stays_broken_is_a_dead_letter_with_its_beginning"),
    ("a full disk is no broken file", READ_ERROR, "_ => Self::Local(error),", "_ => Self::Broken(error.to_string()),",
     MIMECAST, "error::tests::bytes_that_are_wrong_are_told_from_a_machine_that_is"),
    ("a listing without its list is an error", LISTING, "if has_value { Ok(listing) }", "if has_value || true { Ok(listing) }",
     MIMECAST, "listing::tests::an_answer_without_a_list_of_links_does_not_say_that_nothing_is_new"),
    ("redirects are not followed", HTTPS, ".redirect(Policy::none())", ".redirect(Policy::default())",
     FUNCTIONS, "hostile::a_redirect_to_another_host_gets_no_keys"),
    ("a reset is no orderly end", TRANSPORT, "socket.take_error()?.map_or(Ok(queue), Err)", "Ok(queue)",
     SYSLOG, "an_end_that_a_reset_follows_is_no_acceptance"),
    ("an empty connection finds out whether the receiver closes", WAY_SYSLOG, "if kernel_tells() { Manner::StaysOpen }",
     "if kernel_tells() { Manner::Unclear }", FUNCTIONS, "field_cases::sinks::a_receiver_that_never_closes_gets_each_line_of_each_source_once"),
    ("one that closes empty connections only is found out", WAY_SYSLOG, "        state.unclosed >= UNCLOSED", "        false", SYSLOG,
     "a_receiver_that_closes_only_empty_connections_gets_at_most_one_batch_again"),
    ("the next address is tried soon", TRANSPORT, "sleep(later(number)).await;", "sleep(later(number) * 40).await;",
     DEVO, "transport::tests::a_black_hole_does_not_hide_the_next_address"),
    ("another secret may help where a host is gone", COLLECTOR_PROCESS, "Credentials | DevoRejected | DevoUnavailable |",
     "Credentials | DevoRejected |", FUNCTIONS,
     "field_cases::sinks::a_secret_whose_url_has_moved_is_read_again_once_the_old_host_is_gone"),
    ("a long dashboard fits its item", SENT, "const MOST: usize = 10_000;", "const MOST: usize = 20_000;",
     COLLECTOR, "sent::tests::an_item_holds_it"),
    ("a day that has ended at Mimecast is asked for", LINKS, "if ended.is_none() || days[1] <= asked_to {",
     "if ended.is_none() || true {", FUNCTIONS, "field_cases::streams::a_day_that_has_not_begun_by_our_clock_hides_nothing"),
    ("a released id in another state is another event", RELEASE, "id: None,", 'id: Some("id"),',
     FUNCTIONS, "on_request::a_released_id_in_another_state_is_another_event_and_may_lack_its_time"),
    ("rejections are asked for of the whole account", REJECTIONS, 'filter: r#""admin":true"#,', 'filter: "",',
     FUNCTIONS, "all_sources::all_sources_arrive_by_api_2"),
    ("the texts beside a dead letter are bounded", LETTERS, "const TEXT: usize = 2_000;", "const TEXT: usize = 200_000;",
     COLLECTOR, "store::tests::a_dead_letter_with_long_texts_is_kept_too"),
    ("a Devo that takes any token proves nothing", PROBE, "if to_stranger == status {", "if false && to_stranger == status {",
     OPERATOR, "check::a_devo_that_takes_any_token_proves_nothing"),
    ("what Devo has accepted is counted", DELIVER, "accepted(&table.name, count.saturating_sub(refused), now);",
     "accepted(&table.name, count.saturating_sub(refused).min(1), now);", OPERATOR,
     "verify::what_has_arrived_is_proven_and_what_has_not_is_told"),
    ("who knows nothing is not healthy", HEALTH, 'Some("has not run yet".to_owned())', "None",
     OPERATOR, "service::it_is_healthy_only_when_it_knows_that_all_is_well"),
    ("a table that cannot be read is not well", VERIFY, "delivered: all, missing: all,", "delivered: all,", OPERATOR,
     "verify::a_table_that_cannot_be_read_is_not_taken_for_well"),
    ("a reset forgets what is to be delivered again", RESET, "self.forget(tenant, source, &from).await?;", "let _ = &from;",
     OPERATOR, "upkeep::a_reset_delivers_again_what_came_since_and_says_so_before"),
]
