//! (f) Progress: what requests lead to.

use collector::Status;
use collector::source::{Kind, Source};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::network::Run;
use crate::world::World;

/// Rows of a page where the plan sets none: no source of a world has so many in one second.
const PAGE: usize = 100;

/// What of a state only changes as something is done, without how a reading or its search for a good span stands.
pub fn frontier(state: &Value) -> Value {
    let windows = &state["windows"];
    let window = ["since", "closed_to", "reread_to"].map(|name| &windows[name]);
    json!([window, state["streams"], state["sent"], state["finished"]])
}

impl World {
    /// How many good answers a source may be given at most while its stored state stays where it is.
    ///
    /// Per page that its rows fill: halving a day down to a second takes 17, growing again as many, and what was read ahead may
    /// be thrown away with it. Per file: its page, itself, fresh links and tries, by token and by date. Then what a run without
    /// news costs: a reading of the overlap, ten types with a page each. A loop without an end makes thousands.
    pub fn most_answers(&self, source: &Source) -> u64 {
        let things = self.ledger().things(source.name);
        let page = self.plan.page_size.map_or(PAGE, |size| size as usize);
        let page = page.min(self.plan.upstream.doubts.page_cap.unwrap_or(page));
        let units = match source.kind {
            Kind::Window(_) => 2 + things.div_ceil(page),
            Kind::Stream(_) => 12 + things + self.mimecast.siem_files(),
            Kind::Snapshot(_) => 2,
        };
        128 * units as u64
    }

    /// A good answer has come.
    pub fn answered(&self, source: &Source, run: &mut Run) {
        run.answered += 1;
        let most = self.most_answers(source);
        let answers = self.ledger().answered(source.name);
        if answers == most + 1 {
            let text = format!("(f) {}: {most} good answers, and nothing has come of them", run.name);
            self.ledger().violate(text);
        }
    }

    /// A run has ended in order after `took` of `deadline`.
    pub fn check_progress(&self, run: &Run, status: Status, took: Duration, deadline: Duration) {
        let text = match status {
            // Its time is over some way before the deadline: what comes after the last request needs some too.
            Status::More if !run.moved && !run.limited && took < deadline / 2 => {
                "says more, with time left and nothing done"
            }
            Status::CaughtUp if run.asked > 0 && run.answered == 0 && !run.misled => {
                "has caught up without one good answer"
            }
            _ => return,
        };
        self.ledger().violate(format!("(f) {} {text}: {took:?} of {deadline:?}", run.name));
    }
}
